//! What people see on a terminal: how things stand, kept current if they like, and how far a drain has come.
//!
//! [`text`] is letters and columns, [`words`] is times and numbers; [`overview`] and [`bar`] make pictures of what is known.
//! All four are pure. [`terminal`] is where they are shown.
//!
//! What must always hold: no line is wider than it may be; nothing that comes from outside moves the cursor; what colour
//! says, words say too; a terminal is left as it was found.

pub mod bar;
pub mod overview;
pub mod terminal;
pub mod text;
pub mod words;
