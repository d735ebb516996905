//! See `src/sequencer`.

#[path = "../../../src/sequencer/inbox.rs"]
mod inbox;
#[path = "sequencer_models.rs"]
pub mod models;
#[path = "../../../src/sequencer/turns.rs"]
mod turns;

/// In the place of `src/sequencer/event.rs`.
pub(crate) mod event {
    use crossbeam_channel::Sender;

    use crate::store::account::HostId;

    #[derive(Debug)]
    pub(crate) struct Import;

    #[derive(Debug)]
    pub(crate) struct Imported;

    /// The event of a host, with its number there.
    #[derive(Debug)]
    pub(crate) struct Event {
        pub(crate) host: HostId,
        pub(crate) number: u64,
    }

    #[derive(Debug)]
    pub(crate) enum Input {
        Event(Event),
        Progress {
            host: HostId,
        },
        Import {
            import: Import,
            done: Sender<Imported>,
        },
    }

    #[derive(Clone, Copy)]
    pub(crate) enum Turn {
        Decision,
        Host(HostId),
        Other,
    }

    impl Input {
        pub(crate) fn turn(&self) -> Turn {
            match self {
                Input::Event(Event { host, .. }) | Input::Progress { host } => Turn::Host(*host),
                Input::Import { .. } => Turn::Other,
            }
        }

        pub(crate) fn is_large(&self) -> bool {
            false
        }

        pub(crate) fn bytes(&self) -> usize {
            1
        }
    }
}
