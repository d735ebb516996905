//! Every target survives a little noise; the fuzzer does the rest.

#[test]
fn targets_run() {
    let mut state = 1u64;
    for len in 0..5_000 {
        let bytes: Vec<u8> = (0..len % 300)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(99);
                (state >> 56) as u8
            })
            .collect();
        zlay_fuzz::frame(&bytes);
        zlay_fuzz::cbor(&bytes);
        zlay_fuzz::car(&bytes);
        zlay_fuzz::did_document(&bytes);
        zlay_fuzz::mst_invert(&bytes);
        zlay_fuzz::websocket(&bytes);
    }
}
