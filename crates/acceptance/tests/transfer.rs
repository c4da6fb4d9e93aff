//! Subtrees as text: from either kind of server into either.

use std::path::Path;
use std::process::Command;

use rookeeper_acceptance::client::Client;
use rookeeper_acceptance::server::{Product, Server, Setup, rookeeper_binary};
use rookeeper_acceptance::wire::Acl;
use serde_json::Value;

fn ran(command: &str, server: &Server, chroot: &str, more: &[&str]) -> (i32, String, String) {
    let address = format!("{}{chroot}", server.address());
    let mut process = Command::new(rookeeper_binary().expect("the binary is built"));
    let output = process.args([command, "-server", &address]).args(more).output().expect("the command runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("no signal"), text(&output.stdout), text(&output.stderr))
}

/// The nodes without what belongs to one server alone.
fn nodes(text: &str) -> Vec<Value> {
    let mut nodes: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"))
        .filter(|line| line.get("stat").is_some_and(|stat| stat["ephemeral_owner"] == 0))
        .collect();
    for node in &mut nodes {
        node.as_object_mut().expect("an object").remove("stat");
    }
    nodes.sort_by_key(|node| node["path"].as_str().expect("a path").to_owned());
    nodes
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn a_subtree_goes_from_either_server_to_either_and_again() {
    let home = tempfile::tempdir().expect("a directory");
    let auth = home.path().join("auth");
    std::fs::write(&auth, "digest super:admin\n").expect("a file");
    for (from, to) in [(Product::Apache, Product::Rookeeper), (Product::Rookeeper, Product::Apache)] {
        let [from, to] = [from, to].map(|product| Setup::of(product).with_super_user().start().expect("it starts"));
        let mut client = Client::connect(from.address()).expect("a session");
        client.authenticate("digest", "bob:secret").expect("bob");
        client.create("/app", "Grüße".as_bytes()).expect("a node");
        client.create("/app/binary", &[0xff, 0, 0x80]).expect("a node");
        client.create_with("/app/null", None, &Acl::open(), 0).expect("a node");
        let mine = [Acl::new(31, "auth", "")];
        client.create_with("/app/mine", Some(b"of bob"), &mine, 0).expect("a node");
        client.create("/app/mine/below", b"").expect("a node");
        client.create_with("/app/alive", Some(b""), &Acl::open(), 1).expect("an ephemeral node");
        for number in 0..300 {
            client.create(&format!("/app/null/{number}"), number.to_string().as_bytes()).expect("a node");
        }
        let file = home.path().join("export");
        let exported = ["--auth-file", shown(&auth), "--output", shown(&file), "/app"];
        let (code, _, told) = ran("export", &from, "", &exported);
        assert_eq!((code, told.as_str()), (0, "306 nodes were exported\n"));
        let text = std::fs::read_to_string(&file).expect("the export");
        assert!(text.contains("\"text\":\"Grüße\"") && text.contains("\"base64\":\"/wCA\""), "{text}");

        let (code, _, told) = ran("export", &from, "", &["/app"]);
        assert!(code == 1 && told.contains("Insufficient permission : /app/mine"), "{told}");
        let (code, _, told) = ran("export", &from, "", &["/nowhere"]);
        assert!(code == 1 && told.contains("Node does not exist: /nowhere"), "{told}");

        let import = ["--auth-file", shown(&auth), shown(&file)];
        let with = |flag: &'static str| [&[flag][..], &import[..]].concat();
        let (code, _, told) = ran("import", &to, "", &with("--dry-run"));
        assert!(code == 0 && told.contains("nothing was done; would be created: 305, changed: 0"), "{told}");
        let (_, text_before, _) = ran("export", &to, "", &["/"]);
        assert_eq!(nodes(&text_before).len(), 1, "a dry run has made nodes");
        let (code, _, told) = ran("import", &to, "", &import);
        assert!(
            code == 0 && told.contains("created: 305, changed: 0; left as they are: 0; ephemeral, left out: 1"),
            "{told}"
        );
        let (code, again, told) = ran("export", &to, "", &["--auth-file", shown(&auth), "/app"]);
        assert_eq!(code, 0, "{told}");
        assert_eq!(nodes(&again), nodes(&text));

        // What is there already stays, and what differs is told or changed.
        let mut other = Client::connect(to.address()).expect("a session");
        other.authenticate("digest", "bob:secret").expect("bob");
        other.set_data("/app/null/7", b"other", -1).expect("a change");
        other.set_acl("/app/null/8", &[Acl::new(1, "world", "anyone")]).expect("a change");
        let (code, _, told) = ran("import", &to, "", &import);
        assert!(code == 1 && told.contains("other than exported: 2"), "{told}");
        assert!(told.contains("/app/null/7 is there with other data or access control"), "{told}");
        let (code, _, told) = ran("import", &to, "", &with("--overwrite"));
        assert!(code == 0 && told.contains("created: 0, changed: 2; left as they are: 303"), "{told}");
        let (_, again, _) = ran("export", &to, "", &["--auth-file", shown(&auth), "/app"]);
        assert_eq!(nodes(&again), nodes(&text));

        // Below a root of one's own, whose parent must be there.
        let (code, _, told) = ran("import", &to, "/copy", &import);
        assert!(code == 1 && told.contains("its parent"), "{told}");
        other.create("/copy", b"").expect("a node");
        let (code, _, told) = ran("import", &to, "/copy", &import);
        assert_eq!(code, 0, "{told}");
        let (_, copy, _) = ran("export", &to, "/copy", &["--auth-file", shown(&auth), "/app"]);
        assert_eq!(nodes(&copy), nodes(&text));

        // Nothing is made of a text that is cut off.
        std::fs::write(&file, &text[..text.len() - 10]).expect("a file");
        other.delete_tree("/copy/app").expect("it goes");
        let (code, _, told) = ran("import", &to, "/copy", &import);
        assert!(code == 1 && told.contains("it is cut off"), "{told}");
        assert_eq!(other.children("/copy").expect("names"), Vec::<String>::new());
    }
}
