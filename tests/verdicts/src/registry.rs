//! What the registry of Vulkan, `vk.xml`, says: which commands, structures and extensions there are, to which
//! version or extension each belongs, and what of Lockstep's concerns it touches.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use roxmltree::{Document, Node, ParsingOptions};

/// Where `libvulkan-dev` puts the registry.
pub const INSTALLED: &str = "/usr/share/vulkan/registry/vk.xml";

/// What a command or structure has to do with memory, submission or completion, by the types it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Concern {
    /// A memory object.
    Memory,
    /// An index or bits of memory types, or a heap.
    MemoryType,
    /// A type of handle that other processes or interfaces share.
    ExternalHandle,
    /// Memory of the host, other than structures and arrays of known types.
    HostPointer,
    /// An address the device reads or writes by.
    DeviceAddress,
    /// A queue.
    Queue,
    /// A fence.
    Fence,
    /// A semaphore.
    Semaphore,
    /// An event.
    Event,
    /// Results of queries, on the host.
    Query,
    /// An operation that completes later.
    Deferred,
    /// A swapchain.
    Swapchain,
    /// Commands: the device may write what they name.
    Records,
    /// It extends a structure of these.
    Extends,
}

impl Concern {
    /// How it is called in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::MemoryType => "memory types",
            Self::ExternalHandle => "external handles",
            Self::HostPointer => "host pointer",
            Self::DeviceAddress => "device address",
            Self::Queue => "queue",
            Self::Fence => "fence",
            Self::Semaphore => "semaphore",
            Self::Event => "event",
            Self::Query => "query results",
            Self::Deferred => "deferred operation",
            Self::Swapchain => "swapchain",
            Self::Records => "records",
            Self::Extends => "extends",
        }
    }

    /// The concern of a member, a parameter or a returned value.
    fn of(kind: &str, name: &str, is_pointer: bool) -> Option<Self> {
        let by_name = || match name {
            "memoryTypeIndex" | "memoryTypeBits" | "heapIndex" | "heapBudget" => Some(Self::MemoryType),
            "pNext" | "pUserData" => None,
            _ => (kind == "void" && is_pointer).then_some(Self::HostPointer),
        };
        match kind {
            "VkDeviceMemory" => Some(Self::Memory),
            "VkPhysicalDeviceMemoryProperties" => Some(Self::MemoryType),
            "VkDeviceAddress" => Some(Self::DeviceAddress),
            "VkQueue" => Some(Self::Queue),
            "VkFence" => Some(Self::Fence),
            "VkSemaphore" => Some(Self::Semaphore),
            "VkEvent" => Some(Self::Event),
            "VkQueryPool" => Some(Self::Query),
            "VkDeferredOperationKHR" => Some(Self::Deferred),
            "VkSwapchainKHR" => Some(Self::Swapchain),
            external if external.starts_with("VkExternal") && external.contains("HandleType") => {
                Some(Self::ExternalHandle)
            }
            _ => by_name(),
        }
    }
}

/// What must be there besides an extension or version: one of these lists, all of it.
type Needs = Vec<Vec<String>>;

/// A version or extension that a command or structure belongs to.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Its name.
    pub name: String,
    needs: Needs,
}

/// A command or a structure.
#[derive(Clone, Debug, Default)]
pub struct Item {
    /// What it is another name of.
    pub alias: Option<String>,
    /// What it belongs to; nothing if only to what is not for Vulkan.
    pub owners: Vec<Owner>,
    /// What it touches.
    pub concerns: BTreeSet<Concern>,
    /// Types of its members or parameters.
    parts: Vec<String>,
    /// Structures it may extend.
    extends: Vec<String>,
}

impl Item {
    /// The first version or extension it belongs to that is `there`.
    pub fn offered_by(&self, there: impl Fn(&str) -> bool) -> Option<&str> {
        let all = |names: &Vec<String>| names.iter().all(|name| there(name));
        let found =
            |owner: &&Owner| there(&owner.name) && (owner.needs.is_empty() || owner.needs.iter().any(all));
        self.owners.iter().find(found).map(|owner| owner.name.as_str())
    }
}

/// The registry.
#[derive(Debug)]
pub struct Registry {
    /// `VK_HEADER_VERSION_COMPLETE`, with dots.
    pub version: String,
    /// Extensions, and whether each is one of instances.
    pub extensions: BTreeMap<String, bool>,
    /// Commands.
    pub commands: BTreeMap<String, Item>,
    /// Structures and unions.
    pub structures: BTreeMap<String, Item>,
}

impl Registry {
    /// Reads a registry.
    ///
    /// # Errors
    /// When there is none, or it is no registry.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("reading {} (Debian: libvulkan-dev)", path.display()))?;
        let options = ParsingOptions { allow_dtd: true, ..Default::default() };
        let document = Document::parse_with_options(&text, options)
            .with_context(|| format!("parsing {}", path.display()))?;
        let root = document.root_element();
        let mut registry = Self {
            version: version(root).context("no VK_HEADER_VERSION_COMPLETE")?,
            extensions: BTreeMap::new(),
            commands: commands(root),
            structures: structures(root),
        };
        registry.concern_by_parts();
        registry.read_owners(root);
        Ok(registry)
    }

    /// The name that is no alias.
    pub fn canonical<'a>(items: &'a BTreeMap<String, Item>, name: &'a str) -> &'a str {
        match items.get(name).and_then(|item| item.alias.as_deref()) {
            Some(alias) => Self::canonical(items, alias),
            None => name,
        }
    }

    /// Lets what is concerned concern what it is a part of, and what extends it.
    fn concern_by_parts(&mut self) {
        let spread = |structures: &BTreeMap<String, Item>, parts: &[String]| -> BTreeSet<Concern> {
            let known = parts.iter().filter_map(|part| structures.get(Self::canonical(structures, part)));
            known.flat_map(|item| item.concerns.iter().copied()).collect()
        };
        loop {
            let before = self.structures.clone();
            let mut grown = false;
            for item in self.structures.values_mut() {
                let count = item.concerns.len();
                item.concerns.extend(spread(&before, &item.parts));
                grown |= item.concerns.len() > count;
            }
            if !grown {
                break;
            }
        }
        for item in self.commands.values_mut() {
            item.concerns.extend(spread(&self.structures, &item.parts));
        }
        // What stands on a pointer that is read when an object is made changes with no extension.
        let base = self.structures.clone();
        for item in self.structures.values_mut() {
            let extended = spread(&base, &item.extends);
            if extended.iter().any(|concern| *concern != Concern::HostPointer) {
                item.concerns.insert(Concern::Extends);
            }
        }
    }

    fn read_owners(&mut self, root: Node<'_, '_>) {
        let is_vulkan = |list: &str| list.split(',').any(|api| api == "vulkan");
        for node in root.descendants().filter(Node::is_element) {
            let Some(name) = node.attribute("name") else { continue };
            let ours = match node.tag_name().name() {
                "feature" => node.attribute("api").is_some_and(is_vulkan),
                "extension" => node.attribute("supported").is_some_and(is_vulkan),
                _ => false,
            };
            if !ours {
                continue;
            }
            if node.has_tag_name("extension") {
                self.extensions.insert(name.to_owned(), node.attribute("type") == Some("instance"));
            }
            for require in children(node, "require") {
                let owner = Owner { name: name.to_owned(), needs: needs(require) };
                for part in require.children().filter(Node::is_element) {
                    let items = match part.tag_name().name() {
                        "command" => &mut self.commands,
                        "type" => &mut self.structures,
                        _ => continue,
                    };
                    let item = part.attribute("name").and_then(|name| items.get_mut(name));
                    item.into_iter().for_each(|item| item.owners.push(owner.clone()));
                }
            }
        }
    }
}

fn children<'a, 'i>(node: Node<'a, 'i>, tag: &'static str) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |child| child.has_tag_name(tag))
}

fn child_text<'a>(node: Node<'a, '_>, tag: &'static str) -> &'a str {
    children(node, tag).next().and_then(|child| child.text()).unwrap_or_default()
}

fn version(root: Node<'_, '_>) -> Option<String> {
    let define = |name| {
        let is_it = move |node: &Node<'_, '_>| {
            node.has_tag_name("type")
                && child_text(*node, "name") == name
                && node.attribute("api").is_none_or(|api| api == "vulkan")
        };
        let node = root.descendants().find(is_it)?;
        Some(node.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect::<String>())
    };
    let header = define("VK_HEADER_VERSION")?.split_whitespace().last()?.to_owned();
    let complete = define("VK_HEADER_VERSION_COMPLETE")?;
    let arguments = complete.rsplit_once('(')?.1;
    let numbers: Vec<_> = arguments.split(',').map(str::trim).collect();
    let [_, major, minor, _] = numbers[..] else { return None };
    Some(format!("{major}.{minor}.{header}"))
}

fn needs(require: Node<'_, '_>) -> Needs {
    let list = |text: &str, by: char| -> Vec<String> {
        text.split(by).map(|name| name.trim_matches(['(', ')']).to_owned()).collect()
    };
    let old = [require.attribute("feature"), require.attribute("extension")];
    let old: Vec<_> = old.into_iter().flatten().flat_map(|names| list(names, ',')).collect();
    match require.attribute("depends") {
        Some(depends) => list(depends, ',').iter().map(|all| list(all, '+')).collect(),
        None if old.is_empty() => Vec::new(),
        None => vec![old],
    }
}

/// An item with the members or parameters `nodes`.
fn item<'a, 'i: 'a>(nodes: impl Iterator<Item = Node<'a, 'i>>) -> Item {
    let mut item = Item::default();
    for node in nodes.filter(|node| node.attribute("api").is_none_or(|api| api == "vulkan")) {
        let kind = child_text(node, "type");
        let is_pointer =
            node.children().any(|part| part.is_text() && part.text().unwrap_or("").contains('*'));
        item.concerns.extend(Concern::of(kind, child_text(node, "name"), is_pointer));
        item.parts.push(kind.to_owned());
    }
    item
}

fn commands(root: Node<'_, '_>) -> BTreeMap<String, Item> {
    let mut commands = BTreeMap::new();
    let nodes = children(root, "commands").flat_map(|list| children(list, "command"));
    for node in nodes.filter(|node| node.attribute("api").is_none_or(|api| api == "vulkan")) {
        if let (Some(name), Some(alias)) = (node.attribute("name"), node.attribute("alias")) {
            commands.insert(name.to_owned(), Item { alias: Some(alias.to_owned()), ..Item::default() });
            continue;
        }
        let Some(proto) = children(node, "proto").next() else { continue };
        let name = child_text(proto, "name");
        let mut item = item(children(node, "param"));
        item.concerns.extend(Concern::of(child_text(proto, "type"), "", false));
        if name.starts_with("vkCmd") {
            item.concerns.insert(Concern::Records);
        }
        commands.insert(name.to_owned(), item);
    }
    commands
}

fn structures(root: Node<'_, '_>) -> BTreeMap<String, Item> {
    let mut structures = BTreeMap::new();
    let nodes = children(root, "types").flat_map(|list| children(list, "type"));
    for node in nodes.filter(|node| matches!(node.attribute("category"), Some("struct" | "union"))) {
        let Some(name) = node.attribute("name") else { continue };
        let mut item = item(children(node, "member"));
        item.alias = node.attribute("alias").map(str::to_owned);
        item.extends =
            node.attribute("structextends").unwrap_or_default().split(',').map(str::to_owned).collect();
        structures.insert(name.to_owned(), item);
    }
    structures
}
