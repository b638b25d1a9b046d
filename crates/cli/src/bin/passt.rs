//! The program under the name passt; the name decides what it is.

fn main() -> ! {
    cli::main()
}
