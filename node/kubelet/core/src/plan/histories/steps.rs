//! Histories as lists of steps, which can be thrown by dice, enumerated, and shortened.

/// Numbers that look random, the same for the same seed.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.next(sides) == 0
    }

    fn exit_code(&mut self) -> i32 {
        [0, 1, 1, 42][usize::try_from(self.next(4)).unwrap()]
    }
}

/// One thing that happens. `pick` chooses among what there is at that moment; where there is nothing, nothing happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Something that is under way ends, well or badly.
    Land { pick: u64, fails: bool },
    /// A start or a new sandbox that is under way has its effect; the kubelet is told later.
    Take { pick: u64 },
    /// A container ends by itself; the kubelet is told later.
    Exit { pick: u64, code: i32 },
    /// The kubelet is told of something that has happened.
    Hear { pick: u64 },
    /// Seconds pass.
    Pass(i64),
    /// The sandbox goes with all that runs in it; the kubelet is told later.
    LoseSandbox,
    /// One of the pod's own containers is to have another image.
    Image { pick: u64 },
    /// One of the pod's own containers is to have other limits.
    Resize { pick: u64, milli: u64 },
    /// Somebody wants to look into the pod.
    Debug,
    /// Content of volumes has changed.
    Content,
    /// The pod is to go, or to go sooner.
    Delete { grace: i64 },
    /// The pod is taken out of the API by force.
    Remove,
    /// The node ends the pod.
    Evict,
    /// The node needs the space that a pod which has ended takes.
    Clear,
    /// The kubelet breaks off and begins anew; the bits say which of what was under way had its effect.
    Restart { effects: u64 },
}

/// A step that the dice choose. What ends the pod is rare.
fn thrown(dice: &mut Dice) -> Step {
    let pick = dice.next(8);
    match dice.next(40) {
        0..=15 => Step::Land {
            pick,
            fails: dice.one_in(4),
        },
        16..=17 => Step::Take { pick },
        18..=22 => Step::Exit {
            pick,
            code: dice.exit_code(),
        },
        23..=26 => Step::Hear { pick },
        27..=32 => Step::Pass(i64::try_from(dice.next(40)).unwrap()),
        33 => Step::Restart {
            effects: dice.next(256),
        },
        34 => Step::LoseSandbox,
        35 => Step::Resize {
            pick,
            milli: 100 * dice.next(3),
        },
        36 if dice.one_in(3) => Step::Image { pick },
        36 if dice.one_in(2) => Step::Content,
        37 if dice.one_in(3) => Step::Debug,
        38 if dice.one_in(6) => Step::Delete {
            grace: i64::try_from(dice.next(30)).unwrap(),
        },
        39 if dice.one_in(10) => Step::Remove,
        39 if dice.one_in(10) => Step::Evict,
        39 if dice.one_in(2) => Step::Clear,
        _ => Step::Pass(700 * i64::from(dice.one_in(20))),
    }
}

/// A history of up to 160 steps.
pub(super) fn history(dice: &mut Dice) -> Vec<Step> {
    let length = dice.next(160);
    (0..length).map(|_| thrown(dice)).collect()
}

/// Each kind of step once.
pub(super) fn alphabet() -> Vec<Step> {
    vec![
        Step::Land {
            pick: 0,
            fails: false,
        },
        Step::Land { pick: 1, fails: true },
        Step::Take { pick: 0 },
        Step::Exit { pick: 0, code: 0 },
        Step::Exit { pick: 1, code: 1 },
        Step::Hear { pick: 0 },
        Step::Pass(31),
        Step::LoseSandbox,
        Step::Image { pick: 0 },
        Step::Resize { pick: 1, milli: 200 },
        Step::Debug,
        Step::Delete { grace: 5 },
        Step::Remove,
        Step::Evict,
        Step::Clear,
        Step::Restart { effects: 0 },
        Step::Restart { effects: 255 },
    ]
}

/// The steps without any that `fails` does without: first halves are tried, in the end single steps.
pub(super) fn shortened(mut steps: Vec<Step>, fails: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    let mut length = steps.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + length).min(steps.len()));
            if fails(&fewer) {
                steps = fewer;
            } else {
                at += length;
            }
        }
        if length == 1 {
            return steps;
        }
        length = length.div_ceil(2);
    }
}
