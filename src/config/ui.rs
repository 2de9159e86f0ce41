//! Settings of the admin port: its host names and the operator page.

use super::{ConfigErrors, ServeArgs, parsers::split_list};
use crate::{
    api::AdminSettings,
    ui::{self, TraceUrl},
};

pub(super) fn read_admin(args: &ServeArgs, errors: &mut ConfigErrors) -> AdminSettings {
    let trace_url = errors.parse_or_default("REGISTRAR_TRACE_URL", args.trace_url.as_deref(), None, |text| {
        TraceUrl::parse(text).map(Some)
    });
    let is_on = errors.parse_or_default("REGISTRAR_UI", args.ui.as_deref(), true, parse_switch);
    AdminSettings { hosts: read_admin_hosts(args, errors), ui: is_on.then_some(ui::Settings { trace_url }) }
}

fn parse_switch(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("is neither on nor off"),
    }
}

fn read_admin_hosts(args: &ServeArgs, errors: &mut ConfigErrors) -> Vec<String> {
    errors.parse_or_default("REGISTRAR_ADMIN_HOSTS", args.admin_hosts.as_deref(), Vec::new(), |text| {
        let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let hosts: Vec<_> = split_list(text).map(str::to_owned).collect();
        if hosts.iter().all(|host| is_name(host)) {
            Ok(hosts)
        } else {
            Err("has an entry that is not a host name; use for example registrar.example.com, without scheme and port")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ui: Option<&str>, trace_url: Option<&str>) -> (AdminSettings, ConfigErrors) {
        let mut errors = ConfigErrors::default();
        let args =
            ServeArgs { ui: ui.map(str::to_owned), trace_url: trace_url.map(str::to_owned), ..ServeArgs::default() };
        (read_admin(&args, &mut errors), errors)
    }

    #[test]
    fn the_page_is_on_unless_it_is_switched_off() {
        for (text, is_on) in [(None, true), (Some("on"), true), (Some("off"), false), (Some("OFF"), false)] {
            let (settings, errors) = read(text, None);
            assert_eq!((settings.ui.is_some(), errors), (is_on, ConfigErrors::default()), "{text:?}");
        }
        let (_, errors) = read(Some("maybe"), Some("https://user:s3cr3t@jaeger.example/{trace_id}"));
        let text = errors.into_result(()).unwrap_err().to_string();
        for name in ["REGISTRAR_UI", "neither on nor off", "REGISTRAR_TRACE_URL"] {
            assert!(text.contains(name), "{name} is missing in {text}");
        }
        assert!(!text.contains("s3cr3t"), "{text}");
    }
}
