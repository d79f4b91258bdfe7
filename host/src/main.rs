//! The command `agenthost`.

fn main() -> std::process::ExitCode {
    agenthost::cli::main()
}
