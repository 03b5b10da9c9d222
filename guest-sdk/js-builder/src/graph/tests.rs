use super::*;
use crate::disk::Sight;

#[test]
fn specifiers_lead_from_module_to_module() {
    let from = |from: &str, to: &str| relative(Path::new(from), Path::new(to));
    assert_eq!(from("app/a.js", "app/b.js"), "./b.js");
    assert_eq!(from("app/src/a.js", "macula/index.js"), "../../macula/index.js");
    assert_eq!(from("app/a.js", "app/src/b.js"), "./src/b.js");
}

#[test]
fn where_a_module_lies_in_the_component_does_not_tell_where_the_project_lies() {
    let place = |root: &str, file: &str| place(Path::new(root), Path::new(file)).display().to_string();
    assert_eq!(place("/a/plugins/x", "/a/plugins/x/src/i.js"), "app/src/i.js");
    for home in ["/a", "/else/where"] {
        let [root, hoisted, beside] =
            ["plugins/x", "node_modules/z/i.js", "plugins/lib/i.js"].map(|path| format!("{home}/{path}"));
        assert_eq!(place(&root, &hoisted), "around/2/node_modules/z/i.js");
        assert_eq!(place(&root, &beside), "around/1/lib/i.js");
    }
    assert_eq!(place("/x", "/lib/i.js"), "around/1/lib/i.js");
    // Another folder whose name begins alike.
    assert_eq!(place("/a/x", "/a/x2/i.js"), "around/1/x2/i.js");
}

/// A folder of files, gone when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn with(name: &str, files: &[(&str, &str)]) -> Self {
        let folder = std::env::temp_dir().join(format!("macula-graph-{}-{name}", std::process::id()));
        for (path, text) in files {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self(folder.canonicalize().unwrap())
    }

    /// The modules that the project in `project` is made of, and all that was seen for that.
    fn modules(&self, project: &str, entry: &str) -> (Vec<String>, Vec<(PathBuf, Sight)>) {
        let root = self.0.join(project);
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../js").canonicalize().unwrap();
        let disk = Disk::default();
        let handlers = crate::handlers::of(&disk, &root.join(entry)).unwrap();
        let mut graph = Graph::new(disk.clone(), &root, &sdk).unwrap();
        graph.add_entry(&root.join(entry), &handlers, Engine::QuickJs).unwrap();
        let files = graph.finish().unwrap().files.into_keys().map(|path| path.display().to_string());
        (files.filter(|path| !path.starts_with("macula/")).collect(), disk.sights_outside(&sdk))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const PLUGIN: &str = "export default { onCall() { return value } };";

#[test]
fn packages_of_a_workspace_and_linked_ones_are_found_around_the_project() {
    let entry = format!("import value from 'hoisted'; import 'linked'; import '../shared.js'; {PLUGIN}");
    let folder = Folder::with(
        "workspace",
        &[
            ("node_modules/hoisted/package.json", r#"{"exports": "./i.js"}"#),
            ("node_modules/hoisted/i.js", "export default 1"),
            ("lib/package.json", r#"{"name": "linked", "main": "i.js"}"#),
            ("lib/i.js", "export {}"),
            ("shared.js", "export {}"),
            ("plugin/package.json", "{}"),
            ("plugin/index.js", &entry),
        ],
    );
    std::fs::create_dir(folder.0.join("plugin/node_modules")).unwrap();
    let link = folder.0.join("plugin/node_modules/linked");
    std::os::unix::fs::symlink("../../lib", &link).unwrap();
    let (modules, sights) = folder.modules("plugin", "index.js");
    assert_eq!(
        modules,
        ["app/index.js", "around/1/lib/i.js", "around/1/node_modules/hoisted/i.js", "around/1/shared.js"]
    );
    // What led there: a link, what says where a package begins, and a place where a nearer one would have been.
    let seen = |path: &str| -> Vec<&Sight> {
        let path = folder.0.join(path);
        sights.iter().filter(|(seen, _)| *seen == path).map(|(_, sight)| sight).collect()
    };
    assert_eq!(seen("plugin/node_modules/linked"), [&Sight::Link("../../lib".into())]);
    assert!(seen("plugin/node_modules/linked/package.json").iter().any(|sight| matches!(sight, Sight::Read(_))));
    assert_eq!(seen("plugin/node_modules/hoisted"), [&Sight::Nothing]);
}

#[test]
fn paths_of_the_config_and_imports_of_the_package_are_understood() {
    let entry = format!("import value from '~/value'; import n from '#n'; import 'macula'; void n; {PLUGIN}");
    let config = "// with a comment\n{ \"extends\": \"./base.json\", \"include\": [\"src\"] }";
    let base = r#"{ "compilerOptions": { "paths": { "macula": ["./macula/index.d.ts"], "~/*": ["./src/*"] } } }"#;
    let files = [
        ("base.json", base),
        ("package.json", r##"{"imports": {"#n": "./src/n.json"}}"##),
        ("src/index.ts", &entry),
        ("src/value.ts", "export default 1"),
        ("src/n.json", "1"),
    ];
    for config_name in ["tsconfig.json", "jsconfig.json"] {
        let folder = Folder::with(config_name, &[&files[..], &[(config_name, config)]].concat());
        let (modules, sights) = folder.modules("", "src/index.ts");
        assert_eq!(modules, ["app/src/index.ts.js", "app/src/n.json.js", "app/src/value.ts.js"]);
        for file in [config_name, "base.json", "package.json"] {
            let is_read =
                |(path, sight): &(PathBuf, Sight)| *path == folder.0.join(file) && matches!(sight, Sight::Read(_));
            assert!(sights.iter().any(is_read), "{file}: {sights:?}");
        }
    }
}

#[test]
fn interfaces_are_exported_by_their_names_in_javascript() {
    assert_eq!(camel_case("message-handler"), "messageHandler");
    assert_eq!(camel_case("lifecycle"), "lifecycle");
}
