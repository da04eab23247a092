//! The command line of the hub. Everything it does lives in `cli`, a file a subcommand.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
