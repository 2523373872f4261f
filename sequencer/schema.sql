-- Throughline's outbox in an app's database, schema version 1. Safe to run again, by the owner of the database:
--   psql -v ON_ERROR_STOP=1 -f sequencer/schema.sql   or   node sequencer/main.ts --do migrate ...
--
-- The app inserts into throughline.outbox (or calls throughline.publish) inside its own transaction. After the
-- commit the sequencer stamps the event: commit id and order value go into throughline.order_values, a record of
-- their own, and the outbox row is never touched. Until then throughline.events shows both as 0.
begin;
select pg_advisory_xact_lock(hashtext('throughline.schema'));
create schema if not exists throughline;

create table if not exists throughline.schema_versions (
  version int primary key,
  applied_at timestamptz not null default now()
);

-- The sequencer keeps this table as the catalog has the Topics of this outbox. Apps read it with each insert, so
-- what changes with every batch is not in it: under a long transaction its dead versions would slow the apps.
create table if not exists throughline.topics (
  id int generated always as identity primary key,
  name text not null unique,
  max_event_bytes int not null,
  -- False when its Topic is gone: its numbers are kept, nothing new is taken.
  accepts boolean not null default true
);

-- The last stored order value of each topic.
create table if not exists throughline.last_values (
  topic_id int primary key references throughline.topics,
  last_value bigint not null default 0 check (last_value >= 0)
) with (fillfactor = 20);

create table if not exists throughline.outbox (
  id bigint generated always as identity primary key,
  topic text not null,
  type text not null default '',
  key text,
  payload bytea,
  headers jsonb
);

-- One record per event that has its place: the commit (LSN of its commit record), its place in that transaction,
-- and its order value. No foreign keys: a sent event may be cleaned away.
create table if not exists throughline.order_values (
  event_id bigint primary key,
  topic_id int not null,
  sequence bigint not null,
  commit_id bigint not null,
  commit_index int not null,
  commit_time timestamptz not null,
  unique (topic_id, sequence)
);

-- Events that cannot be sent: they have their commit id and no order value, and hold nothing up.
create table if not exists throughline.parked (
  event_id bigint primary key,
  commit_id bigint not null,
  commit_index int not null,
  commit_time timestamptz not null,
  reason text not null,
  unique (commit_id, commit_index)
);

-- Whose outbox this is, and the history that its slot counts in.
create table if not exists throughline.slot (
  single boolean primary key default true check (single),
  owner text not null,
  name text not null,
  system_id text not null,
  timeline int not null,
  consistent_point pg_lsn not null,
  publication oid not null,
  outbox oid not null
);

-- The sequencer at work. Up to safe_lsn it has seen that there is nothing to send.
create table if not exists throughline.heartbeat (
  single boolean primary key default true check (single),
  instance text not null,
  at timestamptz not null,
  safe_lsn pg_lsn not null
);

create or replace view throughline.events as
  select o.id, o.topic, o.type, o.key, o.payload, o.headers,
    coalesce(v.commit_id, p.commit_id, 0) as commit_id,
    coalesce(v.sequence, 0) as sequence,
    coalesce(v.commit_time, p.commit_time) as commit_time,
    p.reason as parked
  from throughline.outbox o
  left join throughline.order_values v on v.event_id = o.id
  left join throughline.parked p on p.event_id = o.id;

-- Refuses what could never be sent.
create or replace function throughline.check_event() returns trigger language plpgsql as $$
declare
  most int;
  bytes bigint;
begin
  if new.topic is null then
    return new; -- The column says it better.
  end if;
  select t.max_event_bytes into most from throughline.topics t where t.name = new.topic and t.accepts;
  if not found then
    raise exception 'topic: "%" is no Topic of this outbox', new.topic
      using errcode = 'check_violation',
        hint = 'Apply a Topic of this name with ordering Commit and this Outbox; throughline.topics lists those that are there.';
  end if;
  bytes := octet_length(new.type) + coalesce(octet_length(new.key), 0) + coalesce(octet_length(new.payload), 0);
  if new.headers is not null then
    if jsonb_typeof(new.headers) <> 'object' then
      raise exception 'headers: must be a JSON object of strings'
        using errcode = 'check_violation';
    end if;
    if exists (
      select from jsonb_each(new.headers) h
      where jsonb_typeof(h.value) <> 'string' or h.key in ('', 'ce_type') or starts_with(lower(h.key), 'tl-')
    ) then
      raise exception 'headers: names must not be empty and values must be strings; names starting with tl- are Throughline''s own, and ce_type is the column type'
        using errcode = 'check_violation';
    end if;
    bytes := bytes + octet_length(new.headers::text);
  end if;
  if bytes > most then
    raise exception 'the event has % bytes; topic "%" takes up to % (limits.maxEventBytes)', bytes, new.topic, most
      using errcode = 'check_violation';
  end if;
  return new;
end $$;

create or replace trigger check_event before insert on throughline.outbox
  for each row execute function throughline.check_event();

-- Publishes an event with the transaction that calls it. Returns the event's id.
create or replace function throughline.publish(
  topic text, type text default '', key text default null, payload bytea default null, headers jsonb default null
) returns bigint language sql as $$
  insert into throughline.outbox (topic, type, key, payload, headers) values ($1, $2, $3, $4, $5) returning id
$$;

-- What an app's role needs: to publish, and to see what became of it.
create or replace function throughline.grant_app(role regrole) returns void language plpgsql as $$
begin
  execute format('grant usage on schema throughline to %s', role);
  execute format('grant insert (topic, type, key, payload, headers), select (id) on throughline.outbox to %s', role);
  execute format('grant select on throughline.topics, throughline.last_values, throughline.events to %s', role);
end $$;

-- What the sequencer's role needs beside REPLICATION (alter role ... replication).
create or replace function throughline.grant_sequencer(role regrole) returns void language plpgsql as $$
begin
  execute format('grant usage on schema throughline to %s', role);
  execute format('grant select on all tables in schema throughline to %s', role);
  execute format('grant insert, update on throughline.topics, throughline.last_values, throughline.heartbeat to %s', role);
  execute format('grant insert, update, delete on throughline.slot to %s', role);
  execute format('grant insert, delete on throughline.order_values to %s', role);
  execute format('grant insert on throughline.parked to %s', role);
  execute format('grant delete on throughline.outbox to %s', role);
end $$;

do $$
begin
  if not exists (select from pg_publication where pubname = 'throughline') then
    create publication throughline for table throughline.outbox with (publish = 'insert');
  end if;
end $$;

insert into throughline.schema_versions (version) values (1) on conflict do nothing;
commit;
