use std::collections::BTreeSet;

use super::*;

fn listening(address: &str) -> ServeArgs {
    ServeArgs { listen: Some(vec![address.parse().unwrap()]), ..ServeArgs::default() }
}

fn file(text: &str) -> (tempfile::NamedTempFile, ServeArgs) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let args = ServeArgs { config: Some(file.path().to_owned()), ..ServeArgs::default() };
    (file, args)
}

#[test]
fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
    assert_eq!(ServeArgs::default().settle().unwrap(), Config::default());
    let (_file, args) = file("listen = ['127.0.0.1:1']");
    assert_eq!(args.settle().unwrap().listen, ["127.0.0.1:1".parse().unwrap()]);
    let both = ServeArgs { config: args.config, ..listening("127.0.0.1:2") };
    assert_eq!(both.settle().unwrap().listen, ["127.0.0.1:2".parse().unwrap()]);
}

#[test]
fn what_is_printed_can_be_read_back() {
    let config = listening("[::1]:3").settle().unwrap();
    assert_eq!(toml::from_str::<Config>(&config.to_toml()).unwrap(), config);
}

#[test]
fn every_flag_is_a_setting_under_the_same_name_and_every_setting_a_flag() {
    use clap::CommandFactory;
    #[derive(clap::Parser)]
    struct Arguments {
        #[command(flatten)]
        _serve: ServeArgs,
    }
    let command = Arguments::command();
    let flags: BTreeSet<String> = command
        .get_arguments()
        .filter_map(|argument| argument.get_long())
        .filter(|name| !matches!(*name, "config" | "print-config" | "qr" | "help"))
        .map(str::to_owned)
        .collect();
    assert_eq!(flags, setting_names());
    for argument in command.get_arguments().filter(|a| a.get_long() != Some("help")) {
        let name = argument.get_long().unwrap();
        let env = argument.get_env().map(|env| env.to_string_lossy().into_owned());
        let expected = format!("VISAVIS_{}", name.replace('-', "_").to_uppercase());
        assert!(matches!(name, "print-config" | "qr") || env == Some(expected), "{name}: {env:?}");
    }
}

/// The names of all settings, as an unknown one is answered with.
fn setting_names() -> BTreeSet<String> {
    let error = toml::from_str::<Config>("no-such-setting = 1").expect_err("unknown");
    let text = error.message().to_owned();
    let (_, names) = text.split_once("expected").unwrap();
    names.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_setting_and_every_metric_is_in_the_manual() {
    let manual = include_str!("../../../docs/operations.md");
    for name in setting_names() {
        assert!(manual.contains(&format!("`{name}`")), "operations.md lacks the setting {name}");
    }
    for name in crate::metrics::names() {
        assert!(manual.contains(&format!("`{name}`")), "operations.md lacks the metric {name}");
    }
    let example = include_str!("../../deploy/visavis-signaling.toml");
    // With every example switched on, it must still be understood.
    let lines = example.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line));
    let text = lines.collect::<Vec<_>>().join("\n");
    let config: Config = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}"));
    config.connection_limits().unwrap();
    for name in setting_names() {
        assert!(text.contains(&format!("{name} =")), "the example lacks {name}");
    }
}

#[test]
fn settings_that_cannot_work_say_why() {
    let limits = |text| toml::from_str::<Config>(text).unwrap().connection_limits();
    assert_eq!(limits("").unwrap(), ConnectionLimits::default());
    for (text, says) in [
        ("max-connections = 0", "max-connections is 0"),
        ("max-connections-per-address = 0", "lets nobody in"),
        ("handshake-seconds = 0", "take 1 to 3600"),
    ] {
        let error = limits(text).expect_err(text).to_string();
        assert!(error.contains(says), "{error}");
    }
    let alone: Config = toml::from_str("proxy-protocol = true").unwrap();
    let error = alone.trusted_proxies().expect_err("of nobody").to_string();
    assert!(error.contains("needs trusted-proxy"), "{error}");
    for (text, says) in [
        ("trusted-proxy = ['10.0.0.0/33']", "ADDRESS/BITS"),
        ("allow-origin = ['friend.example']", "https://HOST"),
        ("access-token = 'short'", "openssl rand"),
    ] {
        let error = toml::from_str::<Config>(text).expect_err(text).to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_token_comes_from_a_setting_or_a_file_and_is_not_printed() {
    let (file, _) = file("open-sesame\n");
    let config = Config { access_token_file: Some(file.path().to_owned()), ..Config::default() };
    assert_eq!(config.required_token().unwrap().unwrap().expose(), "open-sesame");
    let args = ServeArgs { access_token: Some("open-sesame".into()), ..ServeArgs::default() };
    let given = args.settle().unwrap();
    assert_eq!(given.required_token().unwrap().unwrap().expose(), "open-sesame");
    assert!(given.to_toml().contains("(hidden)") && !given.to_toml().contains("sesame"));
    let both = Config { access_token: given.access_token, ..config };
    assert!(both.required_token().expect_err("two").to_string().contains("keep one"));
    let missing = Config { access_token_file: Some("/nowhere".into()), ..Config::default() };
    assert!(missing.required_token().expect_err("no file").to_string().contains("/nowhere"));
}

#[test]
fn a_setting_that_is_none_is_named_with_its_line() {
    let (_file, args) = file("listen = []\nlisten-to = 3\n");
    let error = args.settle().expect_err("unknown").to_string();
    assert!(error.contains("listen-to") && error.contains("line 2"), "{error}");
    let missing = ServeArgs { config: Some("/nowhere".into()), ..ServeArgs::default() };
    assert!(missing.settle().expect_err("missing").to_string().contains("/nowhere"));
}

#[test]
fn tls_is_on_by_default_for_whoever_listens_beyond_this_machine() {
    assert_eq!(Config::default().tls_mode(), TlsMode::Off);
    let config = listening("0.0.0.0:80").settle().unwrap();
    assert_eq!(config.tls_mode(), TlsMode::Auto);
    assert_eq!(config.tls_addresses(), ["0.0.0.0:8443".parse().unwrap()]);
    let off = ServeArgs { tls: Some(TlsMode::Off), ..listening("0.0.0.0:80") };
    assert_eq!(off.settle().unwrap().tls_mode(), TlsMode::Off);
    let (_file, args) = file("tls = 'acme:tea.example'\ntls-listen = ['[::]:443']");
    let config = args.settle().unwrap();
    assert_eq!(config.tls_mode(), TlsMode::Acme { domain: "tea.example".into() });
    assert_eq!(config.tls_addresses(), ["[::]:443".parse().unwrap()]);
    assert_eq!(toml::from_str::<Config>(&config.to_toml()).unwrap(), config);
    let (_file, args) = file("tls = 'perhaps'");
    assert!(args.settle().expect_err("no mode").to_string().contains("acme:DOMAIN"));
}

#[test]
fn where_rooms_are_kept_is_checked_before_anything_starts() {
    let at = |rooms: &str| Config { rooms: rooms.into(), ..Config::default() };
    assert!(Config::default().cluster().unwrap().is_none());
    let options = at("redis://tea.example/2").cluster().unwrap().unwrap();
    assert_eq!(options.url.server(), "tea.example:6379");
    let error = at("disk").cluster().expect_err("no address").to_string();
    assert!(error.contains("redis://HOST:PORT") && error.contains("memory"), "{error}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let keyed = |path: &Path| {
        Config { token_key_file: Some(path.to_owned()), ..at("redis://tea.example") }.cluster()
    };
    let error = keyed(file.path()).expect_err("empty").to_string();
    assert!(error.contains("0 bytes where 32 are needed"), "{error}");
    std::fs::write(file.path(), [7; 32]).unwrap();
    assert_eq!(keyed(file.path()).unwrap().unwrap().secret, Some([7; 32]));
    assert!(keyed(Path::new("/nowhere")).is_err());
}
