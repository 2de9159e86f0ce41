//! Writes the answers of the unit tests' table, and a certificate, into folders, as seeds.

#[allow(dead_code, reason = "the unit tests use all of it")]
#[path = "../../src/chain/json_rpc_answers.rs"]
mod answers;

/// A file of the first release.
const CERTIFICATE: &str = include_str!("../../src/certificate/tests/v1-anvil.json");

fn main() -> std::io::Result<()> {
    let folder = std::path::PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "corpus".to_owned()));
    let (answers, certificates) = (folder.join("json_rpc"), folder.join("certificate"));
    std::fs::create_dir_all(&answers)?;
    std::fs::create_dir_all(&certificates)?;
    for (number, (_, body, _)) in answers::ANSWERS.iter().enumerate() {
        std::fs::write(answers.join(format!("answer-{number}")), body)?;
    }
    std::fs::write(certificates.join("certificate"), CERTIFICATE)
}
