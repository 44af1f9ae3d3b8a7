"""The types of a Lens chart in Kibana 8, as far as our dashboard may use them: any other attribute is an error.

Source: in Kibana's Lens visualizations/xy/types.ts, metric/types.ts, datatable's and form_based's types.ts and
operations/definitions; LegendConfig is in expression_xy/common/types. What was read is not pinned to a release of 8.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Query = dict[Literal["language", "query"], str]


def _attribute(name: str) -> str:
    return to_camel(name).replace("Json", "JSON")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=_attribute)


class Reference(Strict):
    type: Literal["index-pattern"]
    id: str
    name: str


class FormatParams(Strict):
    decimals: int


class ValueFormat(Strict):
    id: Literal["number", "percent", "bytes"]
    params: FormatParams


class Column(Strict):
    label: str
    custom_label: Literal[True]
    data_type: Literal["string", "number", "date"]
    scale: Literal["ordinal", "interval", "ratio"]
    source_field: str
    is_bucketed: bool
    reduced_time_range: str | None = None


class MetricParams(Strict):
    empty_as_null: bool | None = None
    format: ValueFormat | None = None


class MetricColumn(Column):
    operation_type: Literal["average", "max", "sum", "count"]
    params: MetricParams


class OrderBy(Strict):
    type: Literal["alphabetical"]
    fallback: bool


class ParentFormat(Strict):
    id: Literal["terms"]


class TermsParams(Strict):
    size: int
    order_by: OrderBy
    order_direction: Literal["asc", "desc"]
    other_bucket: bool
    missing_bucket: bool
    parent_format: ParentFormat


class TermsColumn(Column):
    operation_type: Literal["terms"]
    params: TermsParams


class DateHistogramParams(Strict):
    interval: str
    include_empty_rows: bool
    drop_partials: bool


class DateHistogramColumn(Column):
    operation_type: Literal["date_histogram"]
    params: DateHistogramParams


class Range(Strict):
    from_: Annotated[int, Field(alias="from")]
    to: int
    label: str


class RangeParams(Strict):
    type: Literal["histogram"]
    max_bars: int | Literal["auto"]
    ranges: list[Range]
    include_empty_rows: bool


class RangeColumn(Column):
    operation_type: Literal["range"]
    params: RangeParams


AnyColumn = Annotated[
    MetricColumn | TermsColumn | DateHistogramColumn | RangeColumn, Field(discriminator="operation_type")
]


class FormBasedLayer(Strict):
    column_order: list[str]
    columns: dict[str, AnyColumn]
    incomplete_columns: dict[str, Any] = Field(max_length=0)
    sampling: int


class DataLayer(Strict):
    layer_id: str
    layer_type: Literal["data"]
    series_type: Literal["line", "area_stacked", "bar_stacked"]
    x_accessor: str
    accessors: list[str]
    split_accessor: str | None = None


class Legend(Strict):
    is_visible: bool
    position: Literal["top", "bottom", "left", "right"]
    show_single_series: bool
    title: str | None = None
    is_title_visible: bool | None = None


class AxesSettings(Strict):
    x: bool
    y_left: bool
    y_right: bool


class XYState(Strict):
    layers: list[DataLayer]
    preferred_series_type: str
    legend: Legend
    value_labels: Literal["hide", "show"]
    fitting_function: Literal["None", "Zero", "Linear", "Carry", "Lookahead", "Average", "Nearest"]
    emphasize_fitting: bool | None = None
    x_title: str
    y_title: str
    axis_titles_visibility_settings: AxesSettings


class MetricState(Strict):
    layer_id: str
    layer_type: Literal["data"]
    metric_accessor: str
    show_bar: bool


class TableColumn(Strict):
    column_id: str


class DatatableState(Strict):
    layer_id: str
    layer_type: Literal["data"]
    columns: list[TableColumn]


class FormBased(Strict):
    layers: dict[str, FormBasedLayer]


class DatasourceStates(Strict):
    form_based: FormBased


class LensState(Strict):
    datasource_states: DatasourceStates
    visualization: XYState | MetricState | DatatableState
    query: Query
    filters: list[Any] = Field(max_length=0)
    internal_references: list[Any] = Field(max_length=0)
    ad_hoc_data_views: dict[str, Any] = Field(max_length=0)


class LensAttributes(Strict):
    type: Literal["lens"]
    title: str
    description: str
    visualization_type: Literal["lnsXY", "lnsMetric", "lnsDatatable"]
    references: list[Reference]
    state: LensState
