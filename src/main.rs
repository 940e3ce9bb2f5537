//! The `sidegate` command.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sidegate::cli::Cli::of_process().map_or_else(|code| code, sidegate::cli::Cli::run)
}
