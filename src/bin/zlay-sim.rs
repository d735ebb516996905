//! A simulated AT Protocol network, to try a relay on.

fn main() -> std::process::ExitCode {
    zlay::sim::cli::main()
}
