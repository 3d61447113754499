//! Programs that the kernel runs for each packet, or each device that is opened: assembled here from instructions, checked
//! by the kernel's verifier, attached to an interface as long as somebody holds the link, or to a control group.
//!
//! ```text
//! Assembler ── Program::load ── Link::ingress(interface)
//!     └ Map (shared with the program)    └ Btf (where the running kernel keeps what a program reads)
//! ```

mod assembler;
mod btf;
mod error;
mod group;
mod link;
mod map;
mod program;
mod syscall;

pub use assembler::{Assembler, Condition, Helper, Label, Reg, Size};
pub use btf::{Btf, Function};
pub use error::{Error, Result};
pub use group::guard_devices;
pub use link::Link;
pub use map::HashMap;
pub use program::Program;
