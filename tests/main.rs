//! One test binary: every scenario is a module here, named as a sentence.
