//! Tells the tests at compile time whether the public test vectors are at hand, so that without
//! them the tests are reported as ignored and not as passed.

fn main() {
    println!("cargo::rerun-if-env-changed=ZLAY_VECTORS");
    println!("cargo::rustc-check-cfg=cfg(zlay_vectors)");
    if std::env::var_os("ZLAY_VECTORS").is_some() {
        println!("cargo::rustc-cfg=zlay_vectors");
    }
}
