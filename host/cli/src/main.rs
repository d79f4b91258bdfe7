//! The command `agenthost`.

fn main() -> std::process::ExitCode {
    agenthost_cli::main()
}
