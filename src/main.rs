//! The `layerfs` program: see [`layerfs::cli`].

fn main() -> std::process::ExitCode {
    layerfs::cli::main()
}
