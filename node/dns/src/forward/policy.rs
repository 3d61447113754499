//! Which server is asked next; pure.

/// Failed checks after which a server counts as down (CoreDNS: `max_fails`).
const MAX_FAILS: u32 = 2;
/// Times that each server is tried for one question (CoreDNS).
const TRIES_EACH: usize = 2;

/// What is known of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Its last answer was good.
    #[default]
    Up,
    /// It did not answer, and has failed so many checks since.
    Suspect(u32),
}

impl Health {
    /// Whether it is only asked when there is no other.
    pub fn is_down(self) -> bool {
        matches!(self, Self::Suspect(fails) if fails > MAX_FAILS)
    }

    /// A question was not answered, which begins checks.
    #[must_use]
    pub fn unanswered(self) -> Self {
        match self {
            Self::Up => Self::Suspect(0),
            suspect @ Self::Suspect(_) => suspect,
        }
    }

    /// The outcome of a check.
    #[must_use]
    pub fn checked(self, answered: bool) -> Self {
        match (self, answered) {
            (_, true) => Self::Up,
            (Self::Up, false) => Self::Suspect(1),
            (Self::Suspect(fails), false) => Self::Suspect(fails.saturating_add(1)),
        }
    }
}

/// The servers in the order in which they are tried for one question: at random, those that are down left out unless
/// all are (CoreDNS: `forward` with the policy `random`).
#[derive(Clone, Debug)]
pub struct Attempts {
    order: Vec<usize>,
    made: usize,
}

impl Attempts {
    /// The order that `random` gives these servers; each is usable or not at all (`None`: it leads back to us).
    pub fn new(servers: &[Option<Health>], random: u64) -> Self {
        let known = |at: &usize| servers[*at].is_some();
        let up = |at: &usize| servers[*at].is_some_and(|health| !health.is_down());
        let mut order: Vec<usize> = (0..servers.len()).filter(up).collect();
        if order.is_empty() {
            order = (0..servers.len()).filter(known).collect();
        }
        let mut random = random;
        for at in (1..order.len()).rev() {
            let choices = u64::try_from(at).unwrap_or(u64::MAX).saturating_add(1);
            order.swap(at, usize::try_from(random % choices).unwrap_or(0));
            random /= choices;
        }
        Self { order, made: 0 }
    }
}

impl Iterator for Attempts {
    type Item = usize;

    /// The next server; none when each had its tries.
    fn next(&mut self) -> Option<usize> {
        if self.made >= self.order.len() * TRIES_EACH {
            return None;
        }
        let server = self.order[self.made % self.order.len()];
        self.made += 1;
        Some(server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Option<Health> = Some(Health::Up);
    const DOWN: Option<Health> = Some(Health::Suspect(3));
    const LOOP: Option<Health> = None;

    #[test]
    fn a_server_is_down_after_three_failed_checks_and_up_after_a_good_one() {
        let mut health = Health::default().unanswered();
        assert!(!health.is_down());
        for _ in 0..3 {
            assert!(!health.is_down());
            health = health.checked(false);
        }
        assert!(health.is_down() && health.unanswered().is_down());
        assert_eq!(health.checked(true), Health::Up);
    }

    #[test]
    fn every_server_comes_first_sometimes_and_each_has_two_tries() {
        let firsts: std::collections::BTreeSet<usize> = (0..24)
            .filter_map(|random| Attempts::new(&[UP, UP, UP], random).next())
            .collect();
        assert_eq!(firsts.len(), 3);
        let mut all: Vec<usize> = Attempts::new(&[UP, UP, UP], 7).collect();
        all.sort_unstable();
        assert_eq!(all, [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn those_that_are_down_are_asked_when_there_are_no_others() {
        assert_eq!(Attempts::new(&[DOWN, UP, LOOP], 3).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(Attempts::new(&[DOWN, LOOP], 3).collect::<Vec<_>>(), [0, 0]);
        assert_eq!(Attempts::new(&[LOOP, LOOP], 3).next(), None);
        assert_eq!(Attempts::new(&[], 3).next(), None);
    }
}
