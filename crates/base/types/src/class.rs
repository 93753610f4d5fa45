//! What is to be done about an error.

/// What is to be done about an error. Who retries decides by it, not by the variant or the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It may pass by itself: a server that starts, a connection that breaks, a deadline. The same is tried again soon.
    Retry,
    /// It was refused, or asked for wrongly: the same is refused again until a person or another program changes something.
    Refused,
    /// This program, or the machine below it, is at fault.
    Bug,
}

/// An error that knows its class.
pub trait Classified {
    /// What is to be done about it.
    fn class(&self) -> Class;
}
