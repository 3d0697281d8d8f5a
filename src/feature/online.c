/*-------------------------------------------------------------------------
 *
 * online.c
 *		visage_features: the features of one entity, fresh.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "feature/feature.h"
#include "utils/builtins.h"

/* The value of an entity column as text, NULL for none. */
static char *
entity_value(const FeatureView *view, Jsonb *entity, int index)
{
	JsonbValue	scalar;

	if (JB_ROOT_IS_OBJECT(entity))
	{
		if (getKeyJsonValueFromContainer(&entity->root, view->entity[index],
										 strlen(view->entity[index]),
										 &scalar) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the entity has no member \"%s\", a column of "
							"the entity of feature view \"%s\"",
							view->entity[index], view->name)));
		return core_json_text(entity, view->entity[index]);
	}
	if (view->entity_count > 1 || !JB_ROOT_IS_SCALAR(entity))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the entity of feature view \"%s\" has %d columns",
						view->name, view->entity_count),
				 errhint("Give an object with a member for each.")));
	JsonbExtractScalar(&entity->root, &scalar);
	if (scalar.type == jbvNull)
		return NULL;
	return core_json_text(core_json_parse(psprintf("{\"v\": %s}",
												   JsonbToCString(NULL, &entity->root,
																  VARSIZE(entity)))), "v");
}

/*
 * A query that gives the entity as one row of labels, its columns of the
 * types that the source has.
 */
static char *
entity_labels(const FeatureView *view, Jsonb *entity)
{
	StringInfoData events;
	StringInfoData labels;

	initStringInfo(&events);
	feature_append_events(&events, view);
	core_execute(psprintf("SELECT * FROM (%s) AS v LIMIT 0", events.data),
				 NULL, SPI_OK_SELECT);
	initStringInfo(&labels);
	appendStringInfoString(&labels, "SELECT $1::timestamptz AS event_time");
	for (int i = 0; i < view->entity_count; i++)
	{
		Form_pg_attribute column = TupleDescAttr(SPI_tuptable->tupdesc, i);
		char	   *value = entity_value(view, entity, i);

		appendStringInfo(&labels, ", %s::%s AS %s",
						 value ? quote_literal_cstr(value) : "NULL",
						 format_type_extended(column->atttypid,
											  column->atttypmod,
											  FORMAT_TYPE_FORCE_QUALIFY),
						 quote_identifier(view->entity[i]));
	}
	return labels.data;
}

PG_FUNCTION_INFO_V1(visage_features);
Datum
visage_features(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Jsonb	   *entity = PG_GETARG_JSONB_P(1);
	FeatureView *view = feature_read_view(name);
	MemoryContext context = CurrentMemoryContext;
	CoreArgs	args = {0};
	int			nest_level = core_begin_utc();
	char	   *query;
	char	   *text;

	core_spi_begin();
	query = feature_query(&view, 1, entity_labels(view, entity), "", NULL);
	core_arg(&args, TIMESTAMPTZOID, PG_GETARG_DATUM(2), false);
	text = core_query_text(psprintf("SELECT pg_catalog.to_jsonb(f)"
									" FROM (%s) AS f", query), &args,
						   context);
	core_spi_end();
	core_end_utc(nest_level);
	PG_RETURN_JSONB_P(core_json_parse(text));
}
