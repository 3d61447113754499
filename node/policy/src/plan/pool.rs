use std::collections::HashMap;
use std::hash::Hash;

/// The members of a set, each counted: several pods may have one address, as an old one goes and a young one comes.
#[derive(Debug)]
pub(super) struct Pool<M> {
    members: HashMap<M, u32>,
    /// Of what changed since the last taking, whether it was there then; `None` as long as nobody knows the set.
    before: Option<HashMap<M, bool>>,
}

impl<M> Default for Pool<M> {
    fn default() -> Self {
        Self {
            members: HashMap::new(),
            before: None,
        }
    }
}

impl<M: Copy + Eq + Hash> Pool<M> {
    pub fn add(&mut self, member: M) {
        let count = self.members.entry(member).or_default();
        *count += 1;
        if *count == 1 {
            self.note(member, false);
        }
    }

    pub fn remove(&mut self, member: M) {
        let Some(count) = self.members.get_mut(&member) else {
            debug_assert!(false, "what is removed was added");
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.members.remove(&member);
            self.note(member, true);
        }
    }

    fn note(&mut self, member: M, was_there: bool) {
        if let Some(before) = &mut self.before {
            before.entry(member).or_insert(was_there);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = M> {
        self.members.keys().copied()
    }

    /// What went and what came since the last time; nothing the first time.
    pub fn take(&mut self) -> (Vec<M>, Vec<M>) {
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for (member, was_there) in self.before.take().into_iter().flatten() {
            match (was_there, self.members.contains_key(&member)) {
                (true, false) => gone.push(member),
                (false, true) => come.push(member),
                _ => {}
            }
        }
        self.before = Some(HashMap::new());
        (gone, come)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_net_changes_are_told() {
        let mut pool = Pool::default();
        pool.add(1);
        assert_eq!(pool.take(), (vec![], vec![]), "a new set is told of as a whole");
        pool.add(1);
        pool.remove(1);
        pool.add(2);
        pool.remove(2);
        pool.add(3);
        assert_eq!(pool.take(), (vec![], vec![3]));
        pool.remove(1);
        assert_eq!(pool.take(), (vec![1], vec![]));
        assert_eq!(pool.iter().collect::<Vec<_>>(), [3]);
    }
}
