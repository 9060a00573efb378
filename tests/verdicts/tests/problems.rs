//! What lacks a verdict, and what contradicts the sources, is found: in a registry, a driver and verdicts of
//! a few lines.

use lockstep_verdicts::{Verdict, Verdicts};
use std::path::Path;

const REGISTRY: &str = r#"<registry>
<types>
<type category="define">#define <name>VK_HEADER_VERSION</name> 9</type>
<type category="define">#define <name>VK_HEADER_VERSION_COMPLETE</name> VK_MAKE_API_VERSION(0, 1, 3, VK_HEADER_VERSION)</type>
<type category="struct" name="VkBind"><member><type>VkDeviceMemory</type> <name>memory</name></member></type>
<type category="struct" name="VkBinds"><member>const <type>VkBind</type>* <name>pBinds</name></member></type>
<type category="struct" name="VkBindMore" structextends="VkBinds"><member><type>float</type> <name>x</name></member></type>
<type category="struct" name="VkColor"><member><type>float</type> <name>r</name></member></type>
</types>
<commands>
<command><proto><type>void</type> <name>vkBind</name></proto><param>const <type>VkBinds</type>* <name>pBinds</name></param></command>
<command name="vkBindKHR" alias="vkBind"/>
<command><proto><type>void</type> <name>vkPaint</name></proto><param>const <type>VkColor</type>* <name>pColor</name></param></command>
<command><proto><type>void</type> <name>vkMapNew</name></proto><param><type>void</type>** <name>ppData</name></param></command>
<command><proto><type>void</type> <name>vkMapBoth</name></proto><param><type>void</type>** <name>ppData</name></param></command>
</commands>
<feature api="vulkan" name="VK_VERSION_1_0"><require>
<type name="VkBind"/><type name="VkBinds"/><type name="VkBindMore"/><type name="VkColor"/>
<command name="vkBind"/><command name="vkPaint"/>
</require></feature>
<extensions>
<extension name="VK_KHR_bind" type="device" supported="vulkan">
<require><command name="vkBindKHR"/></require>
<require extension="VK_NEW_map"><command name="vkMapBoth"/></require>
</extension>
<extension name="VK_NEW_map" type="device" supported="vulkan"><require><command name="vkMapNew"/></require></extension>
<extension name="VK_NEW_never" type="device" supported="disabled"></extension>
</extensions>
</registry>"#;

const EXTENSIONS: &str = r#"Group { reason: "binds", names: &[c"VK_KHR_bind"] }"#;
const TABLE: &str =
    r#"command!(c"vkBind", f, PFN_vkBind), command!(c"vkBindKHR", f, PFN_vkBind), // vk::Binds"#;

const VERDICTS: &str = r#"
[[intercepted]]
why = "binds"
commands = ["vkBind"]
structures = ["VkBinds"]
[[passes]]
why = "a part"
structures = ["VkBind", "VkBindMore"]
[[not_advertised]]
why = "maps"
extensions = ["VK_NEW_map"]
"#;

/// The verdicts on a driver with these sources.
fn verdicts(extensions: &str, table: &str, verdicts: &str) -> Verdicts {
    let root = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = root.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    };
    write("vk.xml", REGISTRY);
    write("icd/src/extensions.rs", extensions);
    write("icd/src/entry/table/mod.rs", table);
    write("docs/verdicts.toml", verdicts);
    Verdicts::read(root.path(), &root.path().join(Path::new("vk.xml"))).expect("verdicts")
}

fn problems(extensions: &str, table: &str, text: &str) -> Vec<String> {
    verdicts(extensions, table, text).problems().to_vec()
}

#[test]
fn what_is_judged_as_the_sources_say_is_no_problem() {
    let verdicts = verdicts(EXTENSIONS, TABLE, VERDICTS);
    assert_eq!(verdicts.problems(), Vec::<String>::new());
    assert_eq!(verdicts.version(), "1.3.9");
    let of = |name| verdicts.command(name);
    assert_eq!([of("vkBind"), of("vkBindKHR")], [Some(Verdict::Intercepted); 2]);
    assert_eq!(of("vkPaint"), Some(Verdict::Passes));
    // The second one needs both extensions.
    assert_eq!([of("vkMapNew"), of("vkMapBoth")], [Some(Verdict::NotAdvertised); 2]);
    assert_eq!(of("vkOther"), None);
    assert_eq!(verdicts.extension("VK_NEW_never"), None);
}

#[test]
fn what_touches_memory_through_structures_and_has_no_verdict_is_found() {
    let without = VERDICTS.replace(r#"commands = ["vkBind"]"#, "").replace(r#", "VkBindMore""#, "");
    let expected = ["vkBind has no verdict", "VkBindMore has no verdict"];
    assert_eq!(problems(EXTENSIONS, TABLE, &without), expected);
}

#[test]
fn an_extension_without_a_verdict_is_found_and_one_with_two() {
    let without = VERDICTS.replace(r#""VK_NEW_map""#, "");
    assert_eq!(problems(EXTENSIONS, TABLE, &without), ["VK_NEW_map has no verdict"]);
    let both = EXTENSIONS.replace(r#"c"VK_KHR_bind""#, r#"c"VK_KHR_bind", c"VK_NEW_map""#);
    let found = problems(&both, TABLE, VERDICTS);
    assert_eq!(found[0], "VK_NEW_map is not to be advertised, and icd/src/extensions.rs does");
    assert_eq!(found[1..], ["vkMapBoth has no verdict", "vkMapNew has no verdict"]);
}

#[test]
fn what_is_to_be_intercepted_and_is_not_is_found_under_each_of_its_names() {
    let table = TABLE.replace("vkBindKHR", "vkBind");
    let expected = ["vkBindKHR is to be intercepted, and icd/src/entry/table does not"];
    assert_eq!(problems(EXTENSIONS, &table, VERDICTS), expected);
    let table = TABLE.replace("vk::Binds", "");
    let expected = ["VkBinds is to be intercepted, and icd/src does not name it"];
    assert_eq!(problems(EXTENSIONS, &table, VERDICTS), expected);
}

#[test]
fn what_is_intercepted_and_is_to_pass_or_that_nobody_can_have_is_found() {
    let table = format!("{TABLE} c\"vkMapNew\" c\"vkPaint\"");
    let expected = ["vkPaint has no verdict", "vkMapNew is intercepted, and nobody can have it"];
    assert_eq!(problems(EXTENSIONS, &table, VERDICTS), expected);
    let passes =
        VERDICTS.replace("structures = [\"VkBind\",", "commands = [\"vkPaint\"]\nstructures = [\"VkBind\",");
    assert_eq!(
        problems(EXTENSIONS, &table.replace("c\"vkMapNew\"", ""), &passes),
        ["vkPaint is to pass, and icd/src/entry/table intercepts it"]
    );
}
