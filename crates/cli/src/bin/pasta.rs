//! The program under the name pasta; the name decides what it is.

fn main() -> ! {
    cli::main()
}
