//! Programs that the kernel runs for each packet: assembled here from instructions, checked by the kernel's verifier,
//! attached to an interface as long as somebody holds the link.
//!
//! ```text
//! Assembler ── Program::load ── Link::ingress(interface)
//!     └ Map (shared with the program)    └ Btf (where the running kernel keeps what a program reads)
//! ```

mod assembler;
mod btf;
mod error;
mod link;
mod map;
mod program;
mod syscall;

pub use assembler::{Assembler, Condition, Helper, Label, Reg, Size};
pub use btf::{Btf, Function};
pub use error::{Error, Result};
pub use link::Link;
pub use map::HashMap;
pub use program::Program;
