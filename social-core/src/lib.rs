pub mod crypto;
pub mod retry;
pub mod secret;
pub mod vault;
