//! Writes the answers of the unit tests' table into a folder, as seeds.

#[allow(dead_code, reason = "the unit tests use all of it")]
#[path = "../../src/chain/json_rpc_answers.rs"]
mod answers;

fn main() -> std::io::Result<()> {
    let folder = std::path::PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "corpus".to_owned()));
    std::fs::create_dir_all(&folder)?;
    for (number, (_, body, _)) in answers::ANSWERS.iter().enumerate() {
        std::fs::write(folder.join(format!("answer-{number}")), body)?;
    }
    Ok(())
}
