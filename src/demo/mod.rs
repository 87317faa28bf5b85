//! The built-in FastCGI worker of `fpmd demo`.
