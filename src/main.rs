//! The command line of the gateway agent. Everything it does lives in `cli`, a file a subcommand.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
