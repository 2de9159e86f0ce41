//! Who may call.

use super::{ConfigErrors, ServeArgs};
use crate::auth::{Authenticator, Callers, Mode};
use std::path::PathBuf;

pub(super) fn read_auth(args: &ServeArgs, errors: &mut ConfigErrors) -> Authenticator {
    const CALLERS_FILE: &str = "REGISTRAR_CALLERS_FILE";
    let mode = errors.parse_or_default("REGISTRAR_AUTH", args.auth.as_deref(), Mode::Off, parse_mode);
    let file = args.callers_file.as_deref().map(str::trim).filter(|path| !path.is_empty()).map(PathBuf::from);
    match (mode, file) {
        (Mode::Off, None) => {}
        (Mode::Off, Some(_)) => errors.add(
            CALLERS_FILE,
            "has no effect with REGISTRAR_AUTH=off; set REGISTRAR_AUTH to audit or enforce, or leave the file out",
        ),
        (Mode::Audit | Mode::Enforce, None) => errors.add(
            CALLERS_FILE,
            "is required with REGISTRAR_AUTH=audit or enforce; `registrar token new NAME` prints an entry for it",
        ),
        (Mode::Audit | Mode::Enforce, Some(file)) => match Callers::read(&file) {
            Ok(callers) => return Authenticator::new(mode, file, callers),
            Err(error) => error.faults().iter().for_each(|fault| errors.add(CALLERS_FILE, fault)),
        },
    }
    Authenticator::off()
}

fn parse_mode(text: &str) -> Result<Mode, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "off" => Ok(Mode::Off),
        "audit" => Ok(Mode::Audit),
        "enforce" => Ok(Mode::Enforce),
        _ => Err("is none of off, audit and enforce"),
    }
}
