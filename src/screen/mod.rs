//! What people see on a terminal: how things stand, kept current if they like.
//!
//! [`text`] is letters and columns, [`words`] is times and numbers; [`overview`] makes a picture of what is known.
//! All three are pure. [`terminal`] is where they are shown.
//!
//! What must always hold: no line is wider than it may be; nothing that comes from outside moves the cursor; what colour
//! says, words say too; a terminal is left as it was found.

pub mod overview;
pub mod terminal;
pub mod text;
pub mod words;
