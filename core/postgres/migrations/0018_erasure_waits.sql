-- Nobody is erased in the middle of something: an order that keeps him away, an incident that is not over, a hold.
-- depends: 0017_own_data

-- migrate: apply

ALTER TABLE erasure_request ADD COLUMN held_for text CHECK (held_for IN ('legal_hold', 'order', 'incident'));
UPDATE erasure_request SET held_for = 'legal_hold' WHERE held_at IS NOT NULL;

-- What is left of a person afterwards: ids, times, kinds, and figures that lead to nobody. Called twice it changes
-- nothing more. Rows of the audit stay: they hold ids alone, and are chained.
CREATE OR REPLACE FUNCTION erase_person(asked uuid, moment timestamptz) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    DECLARE
        her_number bigint := (SELECT number FROM person WHERE id = asked);
        her_incidents uuid[] := ARRAY(SELECT id FROM incident WHERE victim_id = asked);
        his_incidents uuid[] := ARRAY(SELECT id FROM incident WHERE aggressor_id = asked);
        her_orders uuid[] := ARRAY(SELECT id FROM protection_order WHERE victim_id = asked);
    BEGIN
        IF her_number IS NULL THEN
            RETURN;
        END IF;
        INSERT INTO person_key (person_id, agency_id, created_at, erased_at)
            SELECT id, agency_id, moment, moment FROM person WHERE id = asked
            ON CONFLICT (person_id) DO UPDATE
            SET kek_id = NULL, wrapped = NULL, erased_at = coalesce(person_key.erased_at, excluded.erased_at);
        UPDATE person SET identity = NULL, safe_contact = NULL, safe_word = NULL, identity_sealed = NULL,
            safe_contact_sealed = NULL, safe_word_sealed = NULL, language = 'ru', needs = '{}', hazards = '{}',
            erased_at = coalesce(erased_at, moment), updated_at = moment
            WHERE id = asked;
        DELETE FROM person_index WHERE person_id = asked;
        DELETE FROM creation
            WHERE id = asked OR id IN (SELECT c.id FROM contact c WHERE c.person_id = asked) OR id = ANY (her_orders);
        DELETE FROM contact WHERE person_id = asked;

        -- Where she was goes with `erased_at` (erase_copies); what her devices heard goes here.
        DELETE FROM ping_heard p USING wearing w
            WHERE w.person_id = asked AND p.device_number = w.device_number
            AND p.live_at >= w.since AND p.live_at < w.until;
        DELETE FROM enrolment WHERE device_id IN (SELECT d.id FROM device d WHERE d.person_id = asked);
        UPDATE bearer_token SET revoked_at = coalesce(revoked_at, moment), changed_xid = pg_current_xact_id()
            WHERE device_id IN (SELECT d.id FROM device d WHERE d.person_id = asked);
        DELETE FROM silence WHERE person_id = asked OR device_id IN (SELECT d.id FROM device d WHERE d.person_id = asked);
        UPDATE device_prompt SET person_id = NULL WHERE person_id = asked;
        UPDATE device SET person_id = NULL, push_token = NULL, push_token_sealed = NULL, status = 'returned',
            returned_at = moment, last_seen_at = NULL, last_proved_at = NULL, routes = '{}', updated_at = moment,
            changed_xid = pg_current_xact_id()
            WHERE person_id = asked;

        -- What protected her ends; its zones were her places.
        DELETE FROM zone WHERE order_id = ANY (her_orders);
        UPDATE suspension SET reason = '' WHERE order_id = ANY (her_orders);
        UPDATE protection_order SET reference = NULL, exceptions = '[]', updated_at = moment, version = version + 1,
            revoked_at = CASE WHEN status IN ('revoked', 'expired') THEN revoked_at ELSE moment END,
            status = CASE WHEN status IN ('revoked', 'expired') THEN status ELSE 'revoked' END
            WHERE id = ANY (her_orders);
        UPDATE order_version SET body = body || '{"reference": null, "exceptions": []}' WHERE order_id = ANY (her_orders);
        UPDATE protection_order SET protected_person_ids = array_remove(protected_person_ids, asked), updated_at = moment
            WHERE protected_person_ids @> ARRAY[asked] AND protected_person_ids <> '{}';
        UPDATE case_config_version v SET config = jsonb_set(v.config, '{orders}', coalesce((
                SELECT jsonb_agg(o) FROM jsonb_array_elements(v.config -> 'orders') o
                WHERE (o ->> 'victim')::bigint <> her_number), '[]'))
            WHERE v.case_id IN (SELECT cases_of_person(asked));
        DELETE FROM case_past p WHERE p.case_id IN (SELECT cases_of_person(asked))
            AND NOT EXISTS (SELECT FROM protection_order o WHERE o.case_id = p.case_id AND o.victim_id <> asked);

        -- What happened to her stays as a figure: what, when, how it ended; not where, and in nobody's words.
        UPDATE incident SET place = NULL, hazards = '{}', language = NULL,
            detail = detail - ARRAY['aggressor_place', 'district', 'order_reference']
            WHERE id = ANY (her_incidents);
        UPDATE incident SET hazards = '{}', detail = detail - ARRAY['aggressor_place', 'district']
            WHERE id = ANY (his_incidents);
        UPDATE timeline SET private_sealed = NULL,
            data = data - ARRAY['note', 'differs', 'lat', 'lon', 'accuracy_m', 'place', 'aggressor_place', 'district']
            WHERE incident_id = ANY (her_incidents);
        UPDATE panic SET client_id = NULL, note = NULL, body = NULL, note_sealed = NULL, body_sealed = NULL, lat = NULL,
            lon = NULL, accuracy_m = NULL
            WHERE person_id = asked;
        UPDATE transition SET body = body - ARRAY['victim_position', 'aggressor_position']
            WHERE order_id = ANY (her_orders) OR incident_id = ANY (her_incidents);
        UPDATE transition SET body = body - 'aggressor_position' WHERE incident_id = ANY (his_incidents);
        DELETE FROM incident_fix WHERE incident_id = ANY (her_incidents)
            OR incident_id = ANY (his_incidents) AND party = 'aggressor';
        UPDATE incident_snapshot SET log = NULL, replay = NULL, next_copy_at = NULL
            WHERE incident_id = ANY (her_incidents) OR incident_id = ANY (his_incidents);
        DELETE FROM evidence_export WHERE incident_id = ANY (her_incidents) OR incident_id = ANY (his_incidents);
        UPDATE delivery SET address = NULL, secret = NULL, target_sealed = NULL, address_digest = NULL,
            state = CASE WHEN state IN ('queued', 'sending') THEN 'cancelled' ELSE state END, updated_at = moment
            WHERE audience IN ('victim', 'contact')
            AND (incident_id = ANY (her_incidents) OR recipient = 'person:' || asked);
        UPDATE feed SET data = data || '{"place": null, "hazards": {}, "detail": {}}'
            WHERE kind LIKE 'incident.%' AND data ->> 'victim_id' = asked::text;
    END
    $$;

-- What keeps a person from being erased just now, the weightiest first; null: nothing.
CREATE FUNCTION erasure_obstacle(asked uuid) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT CASE
            WHEN is_held(asked) THEN 'legal_hold'
            WHEN EXISTS (SELECT FROM protection_order
                WHERE aggressor_id = asked AND status NOT IN ('revoked', 'expired')) THEN 'order'
            WHEN EXISTS (SELECT FROM incident WHERE victim_id = asked AND state <> 'resolved')
                OR EXISTS (SELECT FROM incident WHERE aggressor_id = asked AND state <> 'resolved') THEN 'incident'
            END
    $$;

-- Carries a request out if it may be: confirmed, due, not withdrawn, nothing in its way. The person, or null. Her row
-- is locked first: who holds her, or opens an incident of hers, at the same moment comes wholly before or after.
CREATE OR REPLACE FUNCTION carry_out_erasure(request uuid, moment timestamptz) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    DECLARE
        found erasure_request;
        obstacle text;
    BEGIN
        SELECT * INTO found FROM erasure_request WHERE id = request FOR UPDATE;
        IF found.id IS NULL OR num_nonnulls(found.withdrawn_at, found.lapsed_at, found.erased_at) > 0
            OR found.confirmed_at IS NULL OR found.due_at > moment THEN
            RETURN NULL;
        END IF;
        PERFORM FROM person WHERE id = found.person_id FOR UPDATE;
        obstacle := erasure_obstacle(found.person_id);
        IF obstacle IS NOT NULL THEN
            UPDATE erasure_request SET held_at = coalesce(held_at, moment), held_for = obstacle WHERE id = request;
            RETURN NULL;
        END IF;
        PERFORM erase_person(found.person_id, moment);
        UPDATE erasure_request SET erased_at = moment WHERE id = request;
        RETURN found.person_id;
    END
    $$;

-- A hold and an erasure of one it covers wait for each other.
CREATE FUNCTION lock_held() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    BEGIN
        PERFORM FROM person WHERE id IN (
            SELECT NEW.person_id
            UNION SELECT p FROM protection_order o, unnest(ARRAY[o.victim_id, o.aggressor_id] || o.protected_person_ids) p
                WHERE o.case_id = NEW.case_id
            UNION SELECT p FROM incident i, unnest(ARRAY[i.victim_id, i.aggressor_id]) p WHERE i.id = NEW.incident_id)
            ORDER BY id FOR KEY SHARE;
        RETURN NEW;
    END
    $$;
CREATE TRIGGER waits_for_erasure BEFORE INSERT ON legal_hold FOR EACH ROW EXECUTE FUNCTION lock_held();

-- Who of these was erased at a moment (the latest that is known) and is there all the same. A hold placed, an incident
-- opened, a request withdrawn since show that it never came to that: such a one waits, as who asks to be erased does.
CREATE FUNCTION unapplied_erasures(people uuid[], moments timestamptz[]) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT p.id FROM (SELECT id, max(at) AS at FROM unnest(people, moments) AS line (id, at) GROUP BY id) e
        JOIN person p ON p.id = e.id
        WHERE p.erased_at IS NULL
        AND NOT EXISTS (SELECT FROM legal_hold h LEFT JOIN incident i ON i.id = h.incident_id
            WHERE h.lifted_at IS NULL AND h.placed_at > e.at
            AND (h.person_id = p.id OR h.case_id IN (SELECT cases_of_person(p.id))
                OR i.victim_id = p.id OR i.aggressor_id = p.id))
        AND NOT EXISTS (SELECT FROM incident i
            WHERE p.id IN (i.victim_id, i.aggressor_id) AND i.state <> 'resolved' AND i.opened_at > e.at)
        AND NOT EXISTS (SELECT FROM protection_order o
            WHERE o.aggressor_id = p.id AND o.status NOT IN ('revoked', 'expired') AND o.created_at > e.at)
        AND NOT EXISTS (SELECT FROM erasure_request r WHERE r.person_id = p.id AND r.withdrawn_at > e.at)
        ORDER BY p.id
    $$;

REVOKE EXECUTE ON FUNCTION erasure_obstacle, lock_held, unapplied_erasures FROM PUBLIC;
GRANT EXECUTE ON FUNCTION unapplied_erasures TO qorgan_device, qorgan_worker;

-- migrate: rollback

DROP TRIGGER waits_for_erasure ON legal_hold;
DROP FUNCTION lock_held, unapplied_erasures;
-- Carries a request out if it may be: confirmed, due, not withdrawn, nothing held. The person, or null.
CREATE OR REPLACE FUNCTION carry_out_erasure(request uuid, moment timestamptz) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    DECLARE
        found erasure_request;
    BEGIN
        SELECT * INTO found FROM erasure_request WHERE id = request FOR UPDATE;
        IF found.id IS NULL OR num_nonnulls(found.withdrawn_at, found.lapsed_at, found.erased_at) > 0
            OR found.confirmed_at IS NULL OR found.due_at > moment THEN
            RETURN NULL;
        END IF;
        IF is_held(found.person_id) THEN
            UPDATE erasure_request SET held_at = coalesce(held_at, moment) WHERE id = request;
            RETURN NULL;
        END IF;
        PERFORM erase_person(found.person_id, moment);
        UPDATE erasure_request SET erased_at = moment WHERE id = request;
        RETURN found.person_id;
    END
    $$;
-- What is left of a person afterwards: ids, times, kinds, and figures that lead to nobody. Called twice it changes
-- nothing more. Rows of the audit stay: they hold ids alone, and are chained.
CREATE OR REPLACE FUNCTION erase_person(asked uuid, moment timestamptz) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    DECLARE
        her_number bigint := (SELECT number FROM person WHERE id = asked);
        her_incidents uuid[] := ARRAY(SELECT id FROM incident WHERE victim_id = asked);
        his_incidents uuid[] := ARRAY(SELECT id FROM incident WHERE aggressor_id = asked);
        her_orders uuid[] := ARRAY(SELECT id FROM protection_order WHERE victim_id = asked);
        worn record;
    BEGIN
        IF her_number IS NULL THEN
            RETURN;
        END IF;
        INSERT INTO person_key (person_id, agency_id, created_at, erased_at)
            SELECT id, agency_id, moment, moment FROM person WHERE id = asked
            ON CONFLICT (person_id) DO UPDATE
            SET kek_id = NULL, wrapped = NULL, erased_at = coalesce(person_key.erased_at, excluded.erased_at);
        UPDATE person SET identity = NULL, safe_contact = NULL, safe_word = NULL, identity_sealed = NULL,
            safe_contact_sealed = NULL, safe_word_sealed = NULL, language = 'ru', needs = '{}', hazards = '{}',
            erased_at = coalesce(erased_at, moment), updated_at = moment
            WHERE id = asked;
        DELETE FROM person_index WHERE person_id = asked;
        DELETE FROM creation
            WHERE id = asked OR id IN (SELECT c.id FROM contact c WHERE c.person_id = asked) OR id = ANY (her_orders);
        DELETE FROM contact WHERE person_id = asked;

        -- Where she was, while she wore what she wears and what she wore before, as the audit tells.
        FOR worn IN
            SELECT d.number, coalesce(d.fitted_at, d.created_at) AS since, 'infinity'::timestamptz AS until
            FROM device d WHERE d.person_id = asked
            UNION ALL
            SELECT d.number, f.at, coalesce((
                SELECT min(n.at) FROM audit n WHERE n.subject_id = f.subject_id AND n.at > f.at
                AND n.action IN ('device.fitted', 'device.returned')), 'infinity')
            FROM audit f JOIN device d ON d.id = f.subject_id
            WHERE f.action = 'device.fitted' AND f.subject_kind = 'device' AND f.detail ->> 'person_id' = asked::text
        LOOP
            DELETE FROM ping p
                WHERE p.device_number = worn.number AND p.live_at >= worn.since AND p.live_at < worn.until;
            DELETE FROM ping_heard p
                WHERE p.device_number = worn.number AND p.live_at >= worn.since AND p.live_at < worn.until;
        END LOOP;
        DELETE FROM enrolment WHERE device_id IN (SELECT d.id FROM device d WHERE d.person_id = asked);
        UPDATE bearer_token SET revoked_at = coalesce(revoked_at, moment), changed_xid = pg_current_xact_id()
            WHERE device_id IN (SELECT d.id FROM device d WHERE d.person_id = asked);
        DELETE FROM silence WHERE person_id = asked OR device_id IN (SELECT d.id FROM device d WHERE d.person_id = asked);
        UPDATE device_prompt SET person_id = NULL WHERE person_id = asked;
        UPDATE device SET person_id = NULL, push_token = NULL, push_token_sealed = NULL, status = 'returned',
            returned_at = moment, last_seen_at = NULL, last_proved_at = NULL, routes = '{}', updated_at = moment,
            changed_xid = pg_current_xact_id()
            WHERE person_id = asked;

        -- What protected her ends; its zones were her places.
        DELETE FROM zone WHERE order_id = ANY (her_orders);
        UPDATE suspension SET reason = '' WHERE order_id = ANY (her_orders);
        UPDATE protection_order SET reference = NULL, exceptions = '[]', updated_at = moment, version = version + 1,
            revoked_at = CASE WHEN status IN ('revoked', 'expired') THEN revoked_at ELSE moment END,
            status = CASE WHEN status IN ('revoked', 'expired') THEN status ELSE 'revoked' END
            WHERE id = ANY (her_orders);
        UPDATE order_version SET body = body || '{"reference": null, "exceptions": []}' WHERE order_id = ANY (her_orders);
        UPDATE protection_order SET protected_person_ids = array_remove(protected_person_ids, asked), updated_at = moment
            WHERE protected_person_ids @> ARRAY[asked] AND protected_person_ids <> '{}';
        UPDATE case_config_version v SET config = jsonb_set(v.config, '{orders}', coalesce((
                SELECT jsonb_agg(o) FROM jsonb_array_elements(v.config -> 'orders') o
                WHERE (o ->> 'victim')::bigint <> her_number), '[]'))
            WHERE v.case_id IN (SELECT cases_of_person(asked));
        DELETE FROM case_past p WHERE p.case_id IN (SELECT cases_of_person(asked))
            AND NOT EXISTS (SELECT FROM protection_order o WHERE o.case_id = p.case_id AND o.victim_id <> asked);

        -- What happened to her stays as a figure: what, when, how it ended; not where, and in nobody's words.
        UPDATE incident SET place = NULL, hazards = '{}', language = NULL,
            detail = detail - ARRAY['aggressor_place', 'district', 'order_reference']
            WHERE id = ANY (her_incidents);
        UPDATE incident SET hazards = '{}', detail = detail - ARRAY['aggressor_place', 'district']
            WHERE id = ANY (his_incidents);
        UPDATE timeline SET private_sealed = NULL,
            data = data - ARRAY['note', 'differs', 'lat', 'lon', 'accuracy_m', 'place', 'aggressor_place', 'district']
            WHERE incident_id = ANY (her_incidents);
        UPDATE panic SET client_id = NULL, note = NULL, body = NULL, note_sealed = NULL, body_sealed = NULL, lat = NULL,
            lon = NULL, accuracy_m = NULL
            WHERE person_id = asked;
        UPDATE transition SET body = body - ARRAY['victim_position', 'aggressor_position']
            WHERE order_id = ANY (her_orders) OR incident_id = ANY (her_incidents);
        UPDATE transition SET body = body - 'aggressor_position' WHERE incident_id = ANY (his_incidents);
        DELETE FROM incident_fix WHERE incident_id = ANY (her_incidents)
            OR incident_id = ANY (his_incidents) AND party = 'aggressor';
        UPDATE incident_snapshot SET log = NULL, replay = NULL, next_copy_at = NULL
            WHERE incident_id = ANY (her_incidents) OR incident_id = ANY (his_incidents);
        DELETE FROM evidence_export WHERE incident_id = ANY (her_incidents) OR incident_id = ANY (his_incidents);
        UPDATE delivery SET address = NULL, secret = NULL, target_sealed = NULL, address_digest = NULL,
            state = CASE WHEN state IN ('queued', 'sending') THEN 'cancelled' ELSE state END, updated_at = moment
            WHERE audience IN ('victim', 'contact')
            AND (incident_id = ANY (her_incidents) OR recipient = 'person:' || asked);
        UPDATE feed SET data = data || '{"place": null, "hazards": {}, "detail": {}}'
            WHERE kind LIKE 'incident.%' AND data ->> 'victim_id' = asked::text;
    END
    $$;
DROP FUNCTION erasure_obstacle;
ALTER TABLE erasure_request DROP COLUMN held_for;
