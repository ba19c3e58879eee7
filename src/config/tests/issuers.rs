use super::load;

#[test]
fn issuers_are_parsed_and_all_their_faults_reported() {
    let good = "\
[[issuer]]
issuer = 'https://id.example.com/'
audience = 'my-api'
jwks = 'https://id.example.com/jwks.json'
prefix = 'corp/'
username = 'preferred_username'
roles = 'realm_access.roles'
accept_roles = ['editor']
grant = ['member']
algorithms = ['RS256', 'ES256']
";
    let settings = load(good, &[]).unwrap();
    let issuer = &settings.issuers[0];
    assert_eq!(issuer.jwks.to_string(), "https://id.example.com/jwks.json");
    assert_eq!(issuer.terms.accept_roles.to_string(), "editor");
    assert_eq!(issuer.terms.algorithms.len(), 2);
    let least = "[[issuer]]\nissuer = 'a'\naudience = 'b'\njwks = 'keys.json'\nprefix = ''\n";
    let few = load(least, &[]).unwrap();
    let terms = &few.issuers[0].terms;
    assert_eq!((&*terms.username, &terms.roles), ("sub", &None));
    assert_eq!(terms.algorithms.len(), 7);
    assert_eq!(terms.grant.to_string(), "");

    // The setting takes effect only after a restart.
    assert_eq!(settings.fixed_keys_that_differ(&few), ["issuer"]);
    assert!(
        settings
            .fixed_keys_that_differ(&load(good, &[]).unwrap())
            .is_empty()
    );

    let file = "\
[[issuer]]
isuer = 'x'
prefix = 'a:'
username = ['a']
algorithms = ['HS256']
accept_roles = ['a b']

[[issuer]]
issuer = 'doorward'
audience = 'b'
jwks = 'ftp://x/'
prefix = ''

[[issuer]]
issuer = 'a|b'
audience = ''
jwks = 'https://u:p@x/'
prefix = ''
algorithms = []
grant = 7.5

[[issuer]]
issuer = 'c'
audience = 'b'
jwks = 'x'
prefix = ''

[[issuer]]
issuer = 'c'
audience = 'b'
jwks = 'x'
prefix = ''
";
    let faults = load(file, &[]).unwrap_err();
    let expected = [
        "doorward.toml:2: issuer[0].isuer: is not a setting; did you mean issuer?",
        "doorward.toml:20: issuer[2].grant: is neither a string nor a list of strings",
        "doorward.toml:1: issuer[0]: \"issuer\" is missing",
        "doorward.toml:1: issuer[0]: \"audience\" is missing",
        "doorward.toml:1: issuer[0]: \"jwks\" is missing",
        "doorward.toml:3: issuer[0].prefix: must be at most 64 bytes",
        "doorward.toml:4: issuer[0].username: is a list; write one value",
        "doorward.toml:6: issuer[0].accept_roles: \"a b\" is not a role",
        "doorward.toml:6: issuer[0].accept_roles: needs \"roles\" beside it",
        "doorward.toml:5: issuer[0].algorithms: \"HS256\" is none of: RS256,",
        "doorward.toml:11: issuer[1].jwks: is not a URL",
        "doorward.toml:9: issuer[1].issuer: is jwt.issuer, our own name",
        "doorward.toml:15: issuer[2].issuer: must be without",
        "doorward.toml:16: issuer[2].audience: must be 1 to 255 bytes",
        "doorward.toml:17: issuer[2].jwks: is not a URL",
        "doorward.toml:19: issuer[2].algorithms: is an empty list",
        "doorward.toml:29: issuer[4].issuer: is there twice",
    ];
    for expected in expected {
        assert!(
            faults.iter().any(|fault| fault.starts_with(expected)),
            "{expected}\n{faults:#?}"
        );
    }
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    let faults = load("issuer = 'x'", &[]).unwrap_err();
    assert!(
        faults[0].ends_with("is not a list of tables; write [[issuer]]"),
        "{faults:?}"
    );
    let faults = load("[[isuer]]\nissuer = 'x'", &[]).unwrap_err();
    assert!(faults[0].ends_with("did you mean issuer?"), "{faults:?}");
}
