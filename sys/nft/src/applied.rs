use std::ops::Add;

/// What one step towards a plan did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Commands given to the kernel.
    pub commands: usize,
    /// Bytes of the transactions.
    pub bytes: usize,
    /// Whether a table had to be compared as a whole and differed.
    pub repaired: bool,
}

impl Add for Applied {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            commands: self.commands + other.commands,
            bytes: self.bytes + other.bytes,
            repaired: self.repaired || other.repaired,
        }
    }
}
