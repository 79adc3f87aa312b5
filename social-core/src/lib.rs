pub mod crypto;
pub mod secret;
pub mod vault;
