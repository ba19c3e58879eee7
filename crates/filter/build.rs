//! How the library is linked.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    // Its thread and its thread-locals must not outlive its code, even if `do_not_close` is forgotten.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // Only the hooks are visible: Envoy has symbols of BoringSSL with the names of aws-lc's.
    println!("cargo::rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
    // Distroless images have no libgcc_s.so.1, which unwinding needs. The standard library asks the linker for `-lgcc_s`
    // and gets the static libraries.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("libgcc_s.so"), "GROUP ( -lgcc_eh -lgcc )\n")?;
    println!("cargo::rustc-link-arg-cdylib=-L{}", out.display());
    Ok(())
}
