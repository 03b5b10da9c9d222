//! Files that people name, and files that this program keeps.
//!
//! [`read`], [`read_text`] and [`open`] take regular files only, of a size with a bound: a device, a FIFO or a folder is
//! refused by name, and nothing waits for somebody to write to it. [`Draft`] writes a file as a whole: what is at its place
//! stays until all of it is on the disk, and a write that is cut short leaves nothing behind.
//!
//! Where files lie and what is in them is the callers' matter.

mod draft;
mod kind;
mod read;

pub use self::{
    draft::{Draft, Mode, PutNew, WriteError, is_draft, write, write_private},
    kind::FileKind,
    read::{NotRead, ReadError, open, read, read_text},
};
