//! The content of a stream of manifests: objects, and the workloads among them with their pods.

use std::fmt;

use crate::document::{Kind, Node};

/// One object of the stream; objects in a `List` count one by one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'n, 's> {
    pub(super) node: &'n Node<'s>,
    pub(super) kind: &'n str,
    pub(super) name: &'n str,
    pub(super) namespace: &'n str,
    /// The items of the `List` that contains the object.
    pub(super) list: Option<&'n Node<'s>>,
}

impl fmt::Display for Object<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.to_ascii_lowercase(), self.name)
    }
}

/// Every object, in the order of the stream.
pub(super) fn objects<'n, 's>(roots: &'n [Node<'s>]) -> Vec<Object<'n, 's>> {
    let mut found = Vec::new();
    for root in roots {
        let kind = text(root, &["kind"]);
        match root.find(&["items"]) {
            Some(items) if kind.ends_with("List") => {
                found.extend(items.items().iter().map(|item| Object::of(item, Some(items))));
            }
            _ => found.push(Object::of(root, None)),
        }
    }
    found
}

impl<'n, 's> Object<'n, 's> {
    fn of(node: &'n Node<'s>, list: Option<&'n Node<'s>>) -> Self {
        let name = match text(node, &["metadata", "name"]) {
            "" => text(node, &["metadata", "generateName"]),
            name => name,
        };
        let namespace = text(node, &["metadata", "namespace"]);
        Self { node, kind: text(node, &["kind"]), name, namespace, list }
    }

    /// `true` if `apiVersion` is of this group; the core group is empty.
    pub(super) fn is(&self, group: &str, kind: &str) -> bool {
        let version = text(self.node, &["apiVersion"]);
        self.kind == kind && version.rsplit_once('/').map_or("", |(group, _)| group) == group
    }

    /// `true` if the label selector at this path selects the pods of the workload. An absent selector selects none.
    pub(super) fn selects(&self, path: &[&str], workload: &Workload<'_, '_>) -> bool {
        let wanted = self.node.find(path).map(labels).unwrap_or_default();
        self.namespace == workload.object.namespace
            && !wanted.is_empty()
            && wanted.iter().all(|label| workload.labels.contains(label))
    }
}

/// An object that makes pods.
#[derive(Debug)]
pub(super) struct Workload<'n, 's> {
    pub(super) object: Object<'n, 's>,
    /// The pod's `spec`.
    pub(super) pod: &'n Node<'s>,
    /// The pod's `metadata`, if there is any.
    pub(super) metadata: Option<&'n Node<'s>>,
    /// The pod's labels.
    pub(super) labels: Vec<(&'n str, &'n str)>,
}

/// The kinds that make pods: group, kind, and the path of the pod template.
const WORKLOADS: [(&str, &str, &[&str]); 8] = [
    ("apps", "Deployment", &["spec", "template"]),
    ("apps", "StatefulSet", &["spec", "template"]),
    ("apps", "DaemonSet", &["spec", "template"]),
    ("apps", "ReplicaSet", &["spec", "template"]),
    ("batch", "Job", &["spec", "template"]),
    ("batch", "CronJob", &["spec", "jobTemplate", "spec", "template"]),
    ("", "Pod", &[]),
    ("", "ReplicationController", &["spec", "template"]),
];

impl<'n, 's> Workload<'n, 's> {
    /// The object as a workload, if it is one that has a pod template.
    pub(super) fn of(object: Object<'n, 's>) -> Option<Self> {
        let (.., path) = WORKLOADS.iter().find(|(group, kind, _)| object.is(group, kind))?;
        let template = object.node.find(path)?;
        let pod = template.find(&["spec"])?;
        let metadata = template.find(&["metadata"]);
        let labels = template.find(&["metadata", "labels"]).map(labels).unwrap_or_default();
        Some(Self { object, pod, metadata, labels })
    }

    /// The labels by which the workload selects its pods; for a pod or a job, the labels of the pod.
    pub(super) fn selector(&self) -> Vec<(&'n str, &'n str)> {
        let own = match self.object.kind {
            "ReplicationController" => self.object.node.find(&["spec", "selector"]),
            _ => self.object.node.find(&["spec", "selector", "matchLabels"]),
        };
        match own.map(labels) {
            Some(labels) if !labels.is_empty() => labels,
            _ => self.labels.clone(),
        }
    }

    pub(super) fn containers(&self) -> &'n [Node<'s>] {
        self.pod.find(&["containers"]).map(Node::items).unwrap_or_default()
    }

    pub(super) fn init_containers(&self) -> &'n [Node<'s>] {
        self.pod.find(&["initContainers"]).map(Node::items).unwrap_or_default()
    }

    /// `true` if this is the workload that `NAME` or `KIND/NAME` names.
    pub(super) fn is_named(&self, wanted: &str) -> bool {
        match wanted.split_once('/') {
            Some((kind, name)) => self.object.kind.eq_ignore_ascii_case(kind) && self.object.name == name,
            None => self.object.name == wanted,
        }
    }
}

/// The text at the end of a path; empty if there is none.
pub(super) fn text<'n>(node: &'n Node<'_>, path: &[&str]) -> &'n str {
    node.find(path).and_then(Node::text).unwrap_or_default()
}

/// The entries of a map of texts.
fn labels<'n>(node: &'n Node<'_>) -> Vec<(&'n str, &'n str)> {
    let Kind::Map(entries) = node.kind() else { return Vec::new() };
    entries.iter().filter_map(|(key, value)| Some((key.text()?, value.text()?))).collect()
}
