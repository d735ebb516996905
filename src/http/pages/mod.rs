//! The pages that people see in a browser.

pub mod assets;
pub mod frame;
pub mod html;
pub mod words;
