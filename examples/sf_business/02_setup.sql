-- What an engineer declares: where the data is, what is kept of it, which
-- features there are and which rows to learn from.  It can be run again at
-- any time; the second time changes nothing.
--
--	psql -U sf_engineer -v base_url=https://data.sfgov.org -f 02_setup.sql

SELECT visage_create_source('sf', 'socrata', jsonb_build_object('base_url', :'base_url'));

-- Each crawl begins at the newest :updated_at of the last one.  A version of
-- a record is valid from the city's :updated_at.
SELECT visage_create_stream('sf', 'businesses',
	resource => 'g8m3-pdis',
	primary_key => '{uniqueid}',
	cursor_field => ':updated_at',
	write_disposition => 'history',
	columns => '{
		"dba_start_date": "timestamp", "dba_end_date": "timestamp",
		"location_start_date": "timestamp", "location_end_date": "timestamp"}',
	options => '{"sequence_by": ["_updated_at"],
		"track_history_columns": ["ownership_name", "dba_name", "full_business_address", "dba_start_date", "dba_end_date", "location_start_date", "location_end_date",
			"naic_code", "naic_code_description", "lic", "supervisor_district", "neighborhoods_analysis_boundaries", "business_corridor"]}');

-- Of the business itself.  The mail address is left out: the city clears it
-- when a business closes, so in this file it tells the future.
SELECT visage_create_feature_view('sf_business', '{uniqueid}', 'history.sf__businesses__current', 'location_start_date', $features${
	"age": {"agg": "age"},
	"category": {"agg": "last", "of": "naic_code_description"},
	"district": {"agg": "last", "of": "supervisor_district"},
	"legal_form": {"agg": "last", "of": "coalesce(substring(upper(ownership_name) from '\\m(INC|LLC|CORP|CO|LP|LTD|PC)\\M'), 'person')"},
	"licence": {"agg": "last", "of": "split_part(lic, ' ', 1)"},
	"licences": {"agg": "max", "of": "array_length(string_to_array(lic, ' '), 1)"}
	}$features$);
SELECT visage_create_feature_view('sf_firm', '{uniqueid}', 'history.sf__businesses__current', 'dba_start_date', '{
	"firm_age": {"agg": "age"}}');

-- Of its owner, who may have several locations.
SELECT visage_create_feature_view('sf_owner', '{certificate_number}', 'history.sf__businesses__current', 'location_start_date', '{
	"owner_locations": {"agg": "count"}}');

-- Of what goes on around it: businesses of its trade in its neighborhood.
SELECT visage_create_feature_view('sf_closures', '{naic_code_description,neighborhoods_analysis_boundaries}', 'history.sf__businesses__current', 'location_end_date', '{
	"closures_near_1y": {"agg": "count", "window": "1 year"}}');

-- The rows to learn from: every business that is open at a quarter's as-of
-- date, and whether it closes within 12 months.  The last date is a year
-- after the others, so that nothing of its year was known in training.
SELECT visage_create_training_set('sf_closing', $labels$
	SELECT b.uniqueid, b.certificate_number, b.neighborhoods_analysis_boundaries, b.naic_code_description,
		t.as_of AS event_time, coalesce(b.location_end_date <= t.as_of + interval '12 months', false) AS label
	FROM history.sf__businesses__current AS b
	JOIN (
		SELECT generate_series(timestamp '2018-06-10', timestamp '2021-03-10', interval '3 months')
		UNION ALL SELECT timestamp '2022-03-10') AS t (as_of)
		ON b.location_start_date < t.as_of AND (b.location_end_date IS NULL OR b.location_end_date >= t.as_of)
	$labels$, '{sf_business,sf_firm,sf_owner,sf_closures}');

-- The rows to score: every business that is open on the newest day.
SELECT visage_create_training_set('sf_at_risk', $labels$
	SELECT b.uniqueid, b.certificate_number, b.neighborhoods_analysis_boundaries, b.naic_code_description,
		t.as_of AS event_time, NULL::boolean AS label, b.dba_name
	FROM history.sf__businesses__current AS b
	CROSS JOIN (SELECT max(_updated_at) FROM history.sf__businesses__current) AS t (as_of)
	WHERE b.location_start_date < t.as_of AND (b.location_end_date IS NULL OR b.location_end_date >= t.as_of)
	$labels$, '{sf_business,sf_firm,sf_owner,sf_closures}');

-- The whole job, for the schedule.
CREATE OR REPLACE PROCEDURE sf.refresh()
	LANGUAGE plpgsql
AS $procedure$
BEGIN
	CALL visage_ingest('sf.businesses');
	CALL visage_refresh('enriched.sf_closing');
	CALL visage_refresh('enriched.sf_at_risk');
	PERFORM visage_train('sf_closing', 'SELECT * FROM enriched.sf_closing', algorithm => 'logistic',
		columns => '{"key": "uniqueid", "time": "event_time", "exclude": ["certificate_number", "neighborhoods_analysis_boundaries", "naic_code_description"]}',
		split => '{"holdout_from": "2022-03-10"}', deploy => 'always');
	PERFORM visage_grant_model('sf_closing', 'visage_scorer');
END
$procedure$;
