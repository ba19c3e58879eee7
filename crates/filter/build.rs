//! Options for linking the library.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    // The module's thread needs its code even after Envoy has closed the library, which it does without `do_not_close`.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // Exports only the hooks: Envoy's BoringSSL has symbols with the same names as aws-lc.
    println!("cargo::rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
    // Unwinding needs libgcc_s.so.1, which distroless images lack. The standard library asks for `-lgcc_s`; this linker
    // script gives it the static libraries.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("libgcc_s.so"), "GROUP ( -lgcc_eh -lgcc )\n")?;
    println!("cargo::rustc-link-arg-cdylib=-L{}", out.display());
    Ok(())
}
