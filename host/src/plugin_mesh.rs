//! The mesh that plugins see: the runtime's traits over a node's handle.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use macula_node as node;
use macula_node::content::store::Owner;
use macula_node::wire::{
    CallError, Delivery, Fault, HandlerError, Message, NodeId, Operation, Pattern, PluginName, RealmName, Topic,
};
use macula_runtime::mesh::{
    Answer, Call, Content, Inbox, IncomingCall, Mesh, MeshProvider, Offer, Pending, Publication, Publishing,
    SubscribeOptions,
};

use crate::plugin_content::PluginContent;

/// Gives each plugin the node's mesh and content, in its own name.
pub(crate) struct NodeMeshes {
    pub(crate) mesh: node::Mesh,
    pub(crate) content: Option<node::NodeContent>,
}

impl MeshProvider for NodeMeshes {
    fn for_plugin(&self, name: &PluginName) -> Arc<dyn Mesh> {
        let owner = Owner::Plugin(self.mesh.realm_id(), name.clone());
        let content = self.content.as_ref().map(|content| PluginContent(content.of(owner)));
        Arc::new(PluginMesh(self.mesh.for_plugin(name.clone()), content))
    }
}

struct PluginMesh(node::Mesh, Option<PluginContent>);

impl Mesh for PluginMesh {
    fn denied(&self, operation: Operation, target: &str) {
        self.0.note_denial(operation, target);
    }

    fn publish(&self, publication: Publication<'_>) -> Publishing {
        let options = node::Publish {
            delivery: publication.delivery,
            priority: publication.priority,
            retain: publication.retain,
            content_type: publication.content_type.clone(),
            cause_depth: publication.cause_depth,
            extras: publication.extras.cloned().unwrap_or_default(),
        };
        if publication.delivery != Delivery::Acked
            && let Some(published) = self.0.try_publish(publication.topic, publication.payload, &options)
        {
            return Publishing::Now(published);
        }
        let (mesh, topic) = (self.0.clone(), publication.topic.clone());
        let payload = Bytes::copy_from_slice(publication.payload);
        Publishing::Later(Box::pin(async move { mesh.publish_with(&topic, &payload, &options).await }))
    }

    fn subscribe(&self, pattern: &Pattern, options: SubscribeOptions) -> Pending<Result<Box<dyn Inbox>, Fault>> {
        let (mesh, pattern) = (self.0.clone(), pattern.clone());
        let options = node::Subscribe {
            when_full: options.when_full,
            queue_messages: options.queue_messages,
            retained: options.retained,
        };
        Box::pin(async move {
            let subscription = mesh.subscribe_with(pattern, options).await?;
            Ok(Box::new(NodeInbox(subscription)) as Box<dyn Inbox>)
        })
    }

    fn advertise(&self, procedure: &Topic, in_flight_max: u32) -> Pending<Result<Box<dyn Offer>, Fault>> {
        let (mesh, procedure) = (self.0.clone(), procedure.clone());
        let options = node::Advertise { in_flight_max, ..node::Advertise::default() };
        Box::pin(async move {
            let offer = mesh.advertise_with(procedure, options).await?;
            Ok(Box::new(NodeOffer(offer)) as Box<dyn Offer>)
        })
    }

    fn call(&self, call: Call) -> Pending<Result<Bytes, CallError>> {
        let mesh = self.0.clone();
        Box::pin(async move {
            let options = node::CallOptions {
                timeout: call.timeout,
                content_type: call.content_type,
                cause_depth: call.cause_depth,
                extras: call.extras,
            };
            mesh.call(&call.procedure, &call.payload, &options).await
        })
    }

    fn retained(&self, topic: &Topic) -> Pending<Result<Option<Message>, Fault>> {
        let (mesh, topic) = (self.0.clone(), topic.clone());
        Box::pin(async move { mesh.retained(&topic).await })
    }

    fn content(&self) -> Option<Arc<dyn Content>> {
        self.1.clone().map(|content| Arc::new(content) as Arc<dyn Content>)
    }

    fn node(&self) -> NodeId {
        self.0.node()
    }

    fn realm(&self) -> &RealmName {
        self.0.realm()
    }
}

struct NodeInbox(node::Subscription);

impl Inbox for NodeInbox {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.0.poll_next(cx)
    }

    fn dropped(&self) -> u64 {
        self.0.stats().dropped
    }

    fn queued(&self) -> u32 {
        u32::try_from(self.0.stats().queued).unwrap_or(u32::MAX)
    }
}

struct NodeOffer(node::Offer);

impl Offer for NodeOffer {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<IncomingCall>> {
        self.0.poll_next(cx).map(|call| {
            let call = call?;
            Some(IncomingCall { request: call.request, answer: Box::new(NodeAnswer(call.responder)) })
        })
    }
}

struct NodeAnswer(node::Responder);

impl Answer for NodeAnswer {
    fn answer(self: Box<Self>, outcome: Result<Bytes, HandlerError>) {
        self.0.answer(outcome);
    }

    fn fail(self: Box<Self>, error: CallError) {
        self.0.fail(error);
    }
}
