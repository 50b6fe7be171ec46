"""The tables of content, ingests and leases."""

from __future__ import annotations

from sampan.store import Schema

CONTENT_SCHEMA = Schema(
    "content",
    [
        """
        create table content_blob (
            digest text primary key,
            size integer not null,
            created_ns integer not null,
            labels text not null
        ) strict, without rowid;
        create table content_reference (
            digest text not null references content_blob on delete cascade,
            kind text not null,
            id text not null,
            primary key (digest, kind, id)
        ) strict, without rowid;
        create index content_reference_target on content_reference (kind, id);
        create table content_ingest (
            number integer primary key autoincrement,
            key text not null unique,
            expected text,
            size integer,
            started_ns integer not null
        ) strict;
        create table lease (
            id text primary key,
            created_ns integer not null,
            expires_ns integer,
            labels text not null
        ) strict, without rowid;
        create table lease_resource (
            lease text not null references lease on delete cascade,
            kind text not null,
            id text not null,
            primary key (lease, kind, id)
        ) strict, without rowid;
        create index lease_resource_target on lease_resource (kind, id);
        """
    ],
)
