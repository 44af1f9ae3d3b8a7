"""The types of Kibana 8's saved objects around its charts: dashboard, panels, controls, data views.

As in lens_types, any attribute that is not declared here is an error. Source: Kibana's dashboard_saved_object/schema
(v1, v2); what was read is not pinned to a release of 8.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, Json

from .lens_types import LensAttributes, Query, Reference, Strict


class EmbeddableConfig(Strict):
    title: str
    description: str
    hide_panel_titles: bool
    attributes: LensAttributes
    enhancements: dict[str, Any] = Field(max_length=0)


class GridData(Strict):
    i: str
    x: int
    y: int
    w: int
    h: int


class LensPanel(Strict):
    type: Literal["lens"]
    panel_index: str
    grid_data: GridData
    embeddable_config: EmbeddableConfig


class OptionsListSort(Strict):
    by: Literal["_key", "_count"]
    direction: Literal["asc", "desc"]


class OptionsListInput(Strict):
    id: str
    data_view_id: str
    field_name: str
    title: str
    selected_options: list[str]
    search_technique: Literal["prefix", "wildcard", "exact"]
    sort: OptionsListSort


class OptionsListControl(Strict):
    type: Literal["optionsListControl"]
    order: int
    width: Literal["small", "medium", "large"]
    grow: bool
    explicit_input: OptionsListInput


class IgnoredParentSettings(Strict):
    ignore_filters: bool
    ignore_query: bool
    ignore_timerange: bool
    ignore_validations: bool


class ControlGroup(Strict):
    control_style: Literal["oneLine", "twoLine"]
    chaining_system: Literal["HIERARCHICAL", "NONE"]
    show_apply_selections: bool
    ignore_parent_settings_json: Json[IgnoredParentSettings]
    panels_json: Json[dict[str, OptionsListControl]]


class RefreshInterval(Strict):
    pause: bool
    value: int


class DashboardOptions(Strict):
    hide_panel_titles: bool
    sync_colors: bool
    sync_cursor: bool
    sync_tooltips: bool
    use_margins: bool


class SearchSource(Strict):
    filter: list[Any] = Field(max_length=0)
    query: Query


class SavedObjectMeta(Strict):
    search_source_json: Json[SearchSource]


class DashboardAttributes(Strict):
    title: str
    description: str
    time_restore: bool
    time_from: str
    time_to: str
    refresh_interval: RefreshInterval
    panels_json: Json[list[LensPanel]]
    options_json: Json[DashboardOptions]
    control_group_input: ControlGroup
    kibana_saved_object_meta: SavedObjectMeta


class LookupEntry(Strict):
    key: str
    value: str


class StaticLookup(Strict):
    lookup_entries: list[LookupEntry]


class FieldFormat(Strict):
    id: Literal["static_lookup"]
    params: StaticLookup


class DataViewAttributes(Strict):
    title: str
    name: str
    time_field_name: str
    allow_no_index: bool
    field_format_map: Json[dict[str, FieldFormat]]


class SavedObject(Strict):
    id: str
    references: list[Reference]
    core_migration_version: str
    type_migration_version: str


class DashboardObject(SavedObject):
    type: Literal["dashboard"]
    attributes: DashboardAttributes


class DataViewObject(SavedObject):
    type: Literal["index-pattern"]
    attributes: DataViewAttributes


AnySavedObject = Annotated[DashboardObject | DataViewObject, Field(discriminator="type")]
