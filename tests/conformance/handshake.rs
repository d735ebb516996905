//! How a subscription begins: HTTP and the upgrade.
