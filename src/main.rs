//! The `sdl` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    sdl::cli::main()
}
