pub mod crypto;
pub mod rate;
pub mod retry;
pub mod secret;
pub mod vault;
