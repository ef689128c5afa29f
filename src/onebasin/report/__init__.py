"""Results for people: tables, pictures, one HTML page, and the JSON file of a pair of paths."""

from onebasin.report.chart import path_chart as path_chart
from onebasin.report.chart import save_chart as save_chart
from onebasin.report.graph import saved_group_chart as saved_group_chart
from onebasin.report.headline import headline as headline
from onebasin.report.lab import PICTURES as PICTURES
from onebasin.report.lab import save_picture as save_picture
from onebasin.report.page import Page as Page
from onebasin.report.page import Picture as Picture
from onebasin.report.page import save_page as save_page
from onebasin.report.paths import ALIGNED as ALIGNED
from onebasin.report.paths import NAIVE as NAIVE
from onebasin.report.paths import Paths as Paths
from onebasin.report.table import Table as Table
from onebasin.report.tables import barrier_table as barrier_table
from onebasin.report.tables import class_table as class_table
from onebasin.report.tables import matching_table as matching_table
from onebasin.report.tables import network_table as network_table
from onebasin.report.tables import pin_table as pin_table
from onebasin.report.tables import symmetry_table as symmetry_table
from onebasin.report.tables import trial_table as trial_table

__all__ = [
    "ALIGNED",
    "NAIVE",
    "PICTURES",
    "Page",
    "Paths",
    "Picture",
    "Table",
    "barrier_table",
    "class_table",
    "headline",
    "matching_table",
    "network_table",
    "path_chart",
    "pin_table",
    "save_chart",
    "save_page",
    "save_picture",
    "saved_group_chart",
    "symmetry_table",
    "trial_table",
]
