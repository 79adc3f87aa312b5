//! The program `social-chaos`.

use std::process::ExitCode;

fn main() -> ExitCode {
    social_chaos::cli::main()
}
