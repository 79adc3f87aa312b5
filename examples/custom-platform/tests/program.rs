//! The example program does what it says.

#[path = "../examples/chirp.rs"]
#[allow(dead_code, reason = "its main is called by nobody here")]
mod chirp;

#[tokio::test]
async fn the_program_publishes_a_picture() {
    let address = chirp::run().await.unwrap();
    assert!(address.contains("/@ada/c"), "{address}");
}
