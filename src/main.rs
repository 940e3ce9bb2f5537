//! The `sidegate` command.
fn main() {}
