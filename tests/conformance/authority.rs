//! Who may speak for an account, migrations, and what the directory says.
