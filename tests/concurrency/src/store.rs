//! In the place of `src/store`: nothing is stored.

pub(crate) mod account {
    /// As in `src/store/account.rs`.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub(crate) struct HostId(pub(crate) u32);
}
